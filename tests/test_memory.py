"""Options that need more memory than the machine has."""

import os

import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.memory import require_memory


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with 24 GB."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4000, "SC_PHYS_PAGES": 6_000_000}.__getitem__)


@pytest.mark.parametrize("needed", [0, 24 * 10**9])
def test_what_fits_passes(needed):
    require_memory("kd_method.dim", 8, needed)


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (24 * 10**9 + 1, "24 GB"),
        (99_600_000_000, "100 GB"),
        (999_700_000_000, "1.0 TB"),
        (2_048_000_000_000, "2.0 TB"),
        (9_960_000_000_000, "10 TB"),
        (4 * 10**25, "40000000 EB"),
    ],
)
def test_what_does_not_is_refused_with_both_amounts(needed, said):
    with pytest.raises(InputError) as raised:
        require_memory("hashing_model.hidden_features", 10**9, needed)
    expected = f"hashing_model.hidden_features=1000000000 needs {said} of memory, this machine has 24 GB; lower it."
    assert str(raised.value) == expected


def test_the_key_is_that_of_the_group_in_the_configuration():
    with pytest.raises(InputError) as raised:
        require_memory("hashing_model.queue_size", 7, 10**12)
    moved = raised.value.at("teacher.hashing_model")
    assert str(moved).startswith("teacher.hashing_model.queue_size=7 needs 1.0 TB of memory")


def test_an_option_without_a_group():
    with pytest.raises(InputError, match=r"^bits=7 needs 1\.0 TB of memory"):
        require_memory("bits", 7, 10**12)
