import dataclasses

import pytest
import torch

from brcd_lightning.distillation.base import KDInput, needed
from brcd_lightning.distillation.none import NoDistillation


def test_adds_nothing_and_needs_nothing():
    method = NoDistillation()
    output = method(KDInput(torch.ones(2, 4), torch.ones(2, 4), torch.arange(2)))
    assert output.terms == {}
    assert method.needs == frozenset()
    assert list(method.parameters()) == []


def test_a_batch_does_not_change_and_holds_nothing_that_is_not_asked_for():
    codes = torch.ones(2, 4)
    batch = KDInput(codes, codes, torch.arange(2))
    assert batch.teacher_view is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.student = codes


def test_what_a_method_did_not_ask_for_is_a_bug_that_says_so():
    assert torch.equal(needed(torch.ones(2), "teacher_view"), torch.ones(2))
    with pytest.raises(RuntimeError, match="positives is missing; a method that uses it must name it in its `needs`"):
        needed(None, "positives")
