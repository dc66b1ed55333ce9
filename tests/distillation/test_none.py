import torch

from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.none import NoDistillation


def test_adds_nothing_and_needs_nothing():
    method = NoDistillation()
    output = method(KDInput(torch.ones(2, 4), torch.ones(2, 4), torch.arange(2)))
    assert output.terms == {}
    assert method.needs == frozenset()
    assert list(method.parameters()) == []
