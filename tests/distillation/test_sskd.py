import pytest
import torch

from brcd_lightning.distillation.sskd import SSKD, sskd_loss
from brcd_lightning.errors import InputError
from conftest import random_codes


@pytest.mark.parametrize("ratio", [1.0, 0.75, 0.0])
def test_equals_the_vectors(kd_vectors, ratio):
    vector = kd_vectors["v6_sskd_b6_m3"]
    student, teacher = (torch.tensor(vector[key], dtype=torch.float64).view(3, 4, 6) for key in ("s4", "t4"))
    value = sskd_loss(student, teacher, vector["T"], ratio).item()
    assert value == pytest.approx(vector["expected"][f"sskd_keep_{ratio}"], abs=1e-9)


def test_gradient_is_exact(generator):
    student = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = random_codes(12, 6, generator).double().view(3, 4, 6)
    assert torch.autograd.gradcheck(lambda s: sskd_loss(s, teacher), student)


def test_one_image_costs_nothing(generator):
    student, teacher = (torch.randn(1, 4, 6, generator=generator) for _ in range(2))
    assert sskd_loss(student, teacher).item() == 0


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="rotation_views must be one of shared, independent"):
        SSKD(rotation_views="none")
