import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.strategies import data_parallel


def test_processes_wait_for_each_other_no_longer_than_asked():
    assert data_parallel(12)._timeout.total_seconds() == 12


def test_a_wait_of_nothing_is_refused():
    with pytest.raises(InputError, match="trainer.strategy.timeout_s must be a positive number, got 0"):
        data_parallel(0)
