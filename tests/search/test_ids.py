import numpy as np
import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.search.ids import checked_ids, few


def test_integers_of_any_kind_pass():
    for ids in (torch.tensor([3, 0]), torch.tensor([3, 0], dtype=torch.int32), np.array([3, 0]), [3, 0]):
        assert checked_ids(ids, 2).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (5, "ids must be integers, got torch.int64 of shape ()"),
        (["x"], "ids must be a tensor of integers, got list"),
        (torch.tensor([True, False]), "ids must be integers, got torch.bool"),
        (torch.tensor([1.0]), "ids must be integers, got torch.float32"),
        (torch.tensor([1, 1]), "more than one of 1"),
        (torch.tensor([2**63 - 1]), "at most 2^62, got 9223372036854775807"),
        (torch.tensor([-1, -2]), "got -1, -2"),
    ],
)
def test_anything_else_is_refused(ids, message):
    with pytest.raises(InputError) as error:
        checked_ids(ids)
    assert message in str(error.value)


def test_a_few_are_shown():
    assert few(np.arange(5)) == "0, 1, 2, 3, 4"
    assert few(np.arange(6)) == "0, 1, 2, 3, 4, ..."
