import pytest
import torch

from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.sskd import SSKD, matching_loss, sskd_loss
from brcd_lightning.errors import InputError
from conftest import random_codes
from offered import sees_a_signed_permutation


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


def test_no_row_that_counts_costs_nothing(generator):
    upright = torch.eye(2)
    teacher = torch.stack([upright, *[upright.flip(0)] * 3], dim=1)  # (2, 4, 2): all six rotated images are wrong
    student = torch.randn(2, 4, 2, generator=generator, requires_grad=True)
    value = sskd_loss(student, teacher, ratio=0.1)  # int(0.1 * 6) == 0
    value.backward()
    assert value.item() == 0
    assert torch.equal(student.grad, torch.zeros_like(student))
    batch = KDInput(None, None, None, student_rotations=student, teacher_rotations=teacher)
    assert SSKD(ratio=0.1)(batch).terms["sskd"].item() == 0


def test_matching_is_perfect_where_rotations_stay_close_to_their_upright_image():
    codes = 10 * torch.eye(3)[:, None].expand(3, 4, 3)
    assert matching_loss(codes, 0.01).item() == pytest.approx(0, abs=1e-9)
    swapped = torch.cat([codes[:, :1].roll(1, dims=0), codes[:, 1:]], dim=1)
    assert matching_loss(swapped, 0.01).item() == pytest.approx(100, abs=1e-4)


def test_projections_train_and_the_teachers_learns_only_to_match(generator):
    method = SSKD(heads="mlp")
    method.setup(10, 6, 1)
    batch = KDInput(
        student=None,
        teacher=None,
        index=None,
        student_rotations=torch.randn(3, 4, 6, generator=generator, requires_grad=True),
        teacher_rotations=random_codes(12, 6, generator).float().view(3, 4, 6),
    )
    terms = method(batch).terms
    assert set(terms) == {"sskd", "matching"}
    terms["sskd"].backward(retain_graph=True)
    assert all(p.grad is not None for p in method.project_student.parameters())
    assert all(p.grad is None for p in method.project_teacher.parameters())
    terms["matching"].backward()
    assert all(p.grad.abs().sum() > 0 for p in method.project_teacher[2].parameters())


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="rotation_views must be one of shared, independent"):
        SSKD(rotation_views="none")
    with pytest.raises(InputError, match="heads must be one of none, mlp"):
        SSKD(heads="linear")


def test_only_relations_are_aligned_not_bits(generator):
    assert not sees_a_signed_permutation("sskd", generator)
