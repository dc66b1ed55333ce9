import math

import pytest
import torch

from brcd_lightning.distillation.cosine import Cosine, cosine_loss
from brcd_lightning.errors import InputError
from conftest import random_codes
from offered import sees_a_signed_permutation


def test_equals_a_value_by_hand():
    student = torch.tensor([[1.0, 1.0, -1.0, 1.0], [3.0, 0.0, 0.0, 0.0]])
    teacher = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, 1.0]])
    assert cosine_loss(student, teacher).item() == pytest.approx(1 - (0.5 + 0.5) / 2)


def test_equals_a_slow_loop(generator):
    student = torch.randn(5, 8, dtype=torch.float64, generator=generator)
    teacher = random_codes(5, 8, generator).double()
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        product = sum(a * b for a, b in zip(s, t, strict=True))
        total += 1 - product / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t))
    assert cosine_loss(student, teacher).item() == pytest.approx(total / 5, abs=1e-12)


def test_gradient_is_exact(generator):
    student = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = random_codes(4, 6, generator).double()
    assert torch.autograd.gradcheck(lambda s: cosine_loss(s, teacher), student)


def test_equal_codes_cost_nothing_and_opposite_ones_two(generator):
    codes = random_codes(5, 8, generator).double()
    assert cosine_loss(codes, codes).item() == pytest.approx(0, abs=1e-12)
    assert cosine_loss(codes, -codes).item() == pytest.approx(2, abs=1e-12)


def test_length_and_batch_mates_do_not_matter(generator):
    student, teacher = torch.randn(6, 8, generator=generator), random_codes(6, 8, generator).float()
    order = torch.randperm(6, generator=generator)
    expected = cosine_loss(student, teacher)
    assert torch.allclose(cosine_loss(7 * student, teacher), expected)
    assert torch.allclose(cosine_loss(student[order], teacher[order]), expected)
    halves = [cosine_loss(student[part], teacher[part]) for part in (slice(3), slice(3, 6))]
    assert torch.allclose(sum(halves) / 2, expected)


def test_a_negative_weight_is_refused():
    with pytest.raises(InputError):
        Cosine(weight=-1)


def test_the_hamming_spaces_are_aligned_bit_by_bit(generator):
    assert sees_a_signed_permutation("cosine", generator)
