import pytest
import torch

from brcd_lightning.distillation.sp import SP, sp_loss, sp_per_sample_loss
from brcd_lightning.errors import InputError
from conftest import random_codes
from offered import sees_a_signed_permutation


def test_equals_the_vectors(code_vectors):
    student, teacher, expected = code_vectors
    assert sp_loss(student, teacher).item() == pytest.approx(expected["sp"], abs=1e-9)
    assert sp_per_sample_loss(student, teacher).item() == pytest.approx(expected["sp_released"], abs=1e-9)


@pytest.mark.parametrize("loss", [sp_loss, sp_per_sample_loss])
def test_gradient_is_exact(loss, generator):
    student = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = random_codes(4, 6, generator).double()
    # With signs held fixed the released form is smooth, and so is a small step of gradcheck.
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)


def test_the_released_form_counts_bits_and_cannot_tell_a_code_from_its_inverse(generator):
    student, teacher = (random_codes(7, 16, generator).double() for _ in range(2))
    distance = (student != teacher).sum(dim=1).double()
    expected = (8 * distance * (16 - distance) / 16**3).sum().item()
    assert sp_per_sample_loss(student, teacher).item() == pytest.approx(expected, abs=1e-12)
    assert sp_per_sample_loss(-student, teacher).item() == pytest.approx(expected, abs=1e-12)


def test_the_variant_is_chosen_by_name():
    assert SP().loss is sp_loss
    assert SP(variant="per_sample").loss is sp_per_sample_loss
    with pytest.raises(InputError, match="variant must be one of batch, per_sample"):
        SP(variant="persample")


def test_only_relations_are_aligned_not_bits(generator):
    assert not sees_a_signed_permutation("sp", generator)
