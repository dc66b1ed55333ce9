import numpy as np
import torch

from brcd_lightning.codes import pack
from brcd_lightning.metrics import bit_bias, bit_correlation, kept_bits
from conftest import random_codes


def test_balance():
    codes = torch.tensor([[1, 1, -1], [1, -1, -1], [1, 1, -1], [1, -1, 1]])
    assert bit_bias(codes).tolist() == [1, 0, 0.5]


def test_correlation_equals_numpy(generator):
    codes = random_codes(50, 6, generator)
    assert np.allclose(bit_correlation(codes).numpy(), np.corrcoef(codes.numpy().T))


def test_constant_bits_correlate_with_nothing():
    codes = torch.tensor([[1, 1], [1, -1]])
    assert torch.allclose(bit_correlation(codes), torch.tensor([[0.0, 0], [0, 1]], dtype=torch.float64))


def test_packed_codes_give_the_same(generator):
    codes = random_codes(50, 16, generator)
    assert torch.equal(bit_bias(pack(codes)), bit_bias(codes))
    assert torch.equal(bit_correlation(pack(codes)), bit_correlation(codes))
    codes = random_codes(50, 13, generator)
    assert torch.equal(bit_bias(pack(codes), bits=13), bit_bias(codes))
    assert torch.equal(bit_correlation(pack(codes), bits=13), bit_correlation(codes))


def test_kept_bits_are_counted_per_cluster():
    assert kept_bits(torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1]])).tolist() == [2, 0, 3]
