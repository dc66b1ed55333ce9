import pytest
import torch

from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.rkd import RKD, rkd_angle_loss, rkd_distance_loss
from conftest import random_codes
from offered import sees_a_signed_permutation


def test_equals_the_vectors(code_vectors):
    student, teacher, expected = code_vectors
    loss = 25 * rkd_distance_loss(student, teacher) + 50 * rkd_angle_loss(student, teacher)
    assert loss.item() == pytest.approx(expected["rkd"], abs=1e-9)
    terms = RKD()(KDInput(student, teacher, torch.arange(len(student)))).terms
    assert sum(terms.values()).item() == pytest.approx(expected["rkd"], abs=1e-9)


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
def test_gradient_is_exact(loss, generator):
    student = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = random_codes(4, 6, generator).double()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
@pytest.mark.parametrize("student", [torch.ones(3, 4), torch.tensor([[1.0, -1], [1, -1], [-1, 1]]), torch.ones(1, 4)])
def test_equal_codes_and_single_images_stay_finite(loss, student):
    student = student.clone().requires_grad_()
    value = loss(student, torch.ones_like(student))
    value.backward()
    assert bool(value.isfinite())
    assert bool(student.grad.isfinite().all())


def test_only_relations_are_aligned_not_bits(generator):
    assert not sees_a_signed_permutation("rkd", generator)
