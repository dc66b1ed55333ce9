import pytest
import torch

from brcd_lightning.distributed.threads import single_thread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_block_has_one_thread_and_what_follows_has_those_of_before(two_threads):
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_an_error_inside_gives_the_threads_back(two_threads):
    with pytest.raises(ZeroDivisionError), single_thread():
        _ = 1 / 0
    assert torch.get_num_threads() == 2
