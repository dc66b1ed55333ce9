import pytest
import torch

from brcd_lightning.distillation.kl import KL, kl_loss
from brcd_lightning.errors import InputError
from conftest import random_codes
from offered import sees_a_signed_permutation


def test_equals_the_vectors(code_vectors):
    student, teacher, expected = code_vectors
    assert kl_loss(student, teacher).item() == pytest.approx(expected["kl"], abs=1e-9)


def test_gradient_is_exact(generator):
    student = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = random_codes(4, 6, generator).double()
    assert torch.autograd.gradcheck(lambda s: kl_loss(s, teacher), student)


def test_aligned_codes_cost_nothing_and_constant_codes_look_alike(generator):
    codes = random_codes(5, 8, generator).double()
    assert kl_loss(codes, codes).item() == pytest.approx(0, abs=1e-12)
    ones = torch.ones(3, 8, dtype=torch.float64)
    assert kl_loss(ones, -ones).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"weight": -1}])
def test_wrong_options_are_refused(options):
    with pytest.raises(InputError):
        KL(**options)


def test_the_hamming_spaces_are_aligned_bit_by_bit(generator):
    assert sees_a_signed_permutation("kl", generator)
