import pytest
import torch

from brcd_lightning.distillation.pkt import pkt_loss
from conftest import random_codes
from offered import sees_a_signed_permutation


def test_equals_the_vectors(code_vectors):
    student, teacher, expected = code_vectors
    assert pkt_loss(student, teacher).item() == pytest.approx(expected["pkt"], abs=1e-9)


def test_gradient_is_exact(generator):
    student = torch.randn(4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = random_codes(4, 6, generator).double()
    assert torch.autograd.gradcheck(lambda s: pkt_loss(s, teacher), student)


def test_complementary_codes_stay_finite():
    codes = torch.tensor([[1.0, 1], [-1, -1]], requires_grad=True)
    loss = pkt_loss(codes, torch.tensor([[1.0, -1], [1, 1]]))
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(codes.grad.isfinite().all())


def test_it_starts_as_small_as_the_specification_says(generator):
    values = [pkt_loss(*(random_codes(64, 64, generator).float() for _ in range(2))).item() for _ in range(10)]
    assert sum(values) / 10 == pytest.approx(2.4e-4, rel=0.1)


def test_only_relations_are_aligned_not_bits(generator):
    assert not sees_a_signed_permutation("pkt", generator)
