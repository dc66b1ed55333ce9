import pytest
import torch
import torch.nn.functional as F

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


def direct_distance_loss(student, teacher):
    """The definition, from explicit differences."""
    relative = []
    for codes in (student, teacher):
        squares = (codes[:, None] - codes).square().sum(dim=2)
        distances = squares.clamp(min=1e-12).sqrt() * (1 - torch.eye(len(codes)))
        relative.append(distances / (distances.sum() / (len(codes) * (len(codes) - 1))))
    return F.smooth_l1_loss(*relative)


def direct_angle_loss(student, teacher):
    """The definition, from explicit differences."""
    cosines = []
    for codes in (student, teacher):
        differences = codes - codes[:, None]
        lengths = differences.square().sum(dim=2).clamp(min=1e-24).sqrt()
        cosines.append(torch.einsum("ijb,ikb->ijk", *[differences / lengths[:, :, None]] * 2))
    return F.smooth_l1_loss(*cosines)


LOSSES = [(rkd_distance_loss, direct_distance_loss), (rkd_angle_loss, direct_angle_loss)]


@pytest.mark.parametrize(("loss", "direct"), LOSSES)
@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("length", [0.7, 1.0])
def test_single_precision_equals_the_definition_for_nearly_equal_codes(loss, direct, spread, length, generator):
    teacher = random_codes(24, 32, generator).float()
    noise = torch.randn(24, 32, generator=generator)
    student = (length * random_codes(1, 32, generator) + spread * noise).requires_grad_()
    exact = student.detach().double().requires_grad_()
    value, expected = loss(student, teacher), direct(exact, teacher.double())
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)
    assert (student.grad.double() - exact.grad).norm() <= 1e-3 * exact.grad.norm()


def test_a_pair_of_equal_codes_has_no_gradient_of_its_distance(generator):
    teacher = random_codes(6, 16, generator).double()
    student = torch.randn(6, 16, dtype=torch.float64, generator=generator)
    student[1] = student[0]
    single, double = student.float().requires_grad_(), student.float().double().requires_grad_()
    rkd_distance_loss(single, teacher.float()).backward()
    direct_distance_loss(double, teacher).backward()
    assert torch.allclose(single.grad.double(), double.grad, rtol=1e-3, atol=1e-6 * double.grad.abs().max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_distances_of_codes_do_not_depend_on_their_type(dtype, generator):
    student, teacher = (random_codes(8, 16, generator).float() for _ in range(2))
    value = rkd_distance_loss(student.to(dtype), teacher.to(dtype))
    assert value.item() == rkd_distance_loss(student, teacher).item()


def test_only_relations_are_aligned_not_bits(generator):
    assert not sees_a_signed_permutation("rkd", generator)


def test_equal_codes_of_a_batch_spoil_no_gradient(generator):
    """Their direction is no direction; the clamp of its length would multiply the gradient by 1e12."""
    student = random_codes(8, 16, generator).float()
    student[1] = student[0]
    student.requires_grad_()
    rkd_angle_loss(student, random_codes(8, 16, generator).float()).backward()
    assert student.grad.abs().max() < 0.1
