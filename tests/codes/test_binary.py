import pytest
import torch
from hypothesis import given, settings, strategies as st

from brcd_lightning.codes import as_signs, hamming_distance, pack, sign, sign_ste, unpack
from brcd_lightning.errors import InputError
from conftest import random_codes


def test_sign_has_two_values_also_at_zero():
    assert sign(torch.tensor([-2.0, -0.0, 0.0, 3.0])).tolist() == [-1, 1, 1, 1]


def test_sign_ste_passes_the_gradient_through():
    x = torch.tensor([-2.0, 0.0, 0.5], requires_grad=True)
    (sign_ste(x) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [1, 2, 3]


@given(rows=st.integers(1, 9), bits=st.integers(1, 70), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_unpack_inverts_pack(rows, bits, seed):
    codes = random_codes(rows, bits, torch.Generator().manual_seed(seed))
    packed = pack(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, (bits + 7) // 8)
    assert torch.equal(unpack(packed, bits), codes.to(torch.int8))


def test_pack_puts_bit_0_lowest():
    assert pack(torch.tensor([[1, -1, -1, -1, -1, -1, -1, -1, 1]])).tolist() == [[1, 1]]


def test_pack_refuses_logits():
    with pytest.raises(InputError, match="only -1 and \\+1"):
        pack(torch.tensor([[0.3, -1.0]]))


def test_unpack_refuses_another_width():
    with pytest.raises(InputError, match="of 9 bits must be uint8 of shape \\(rows, 2\\)"):
        unpack(torch.zeros(2, 1, dtype=torch.uint8), 9)


def test_hamming_distance_counts_differing_bits(generator):
    queries, database = random_codes(5, 13, generator), random_codes(7, 13, generator)
    expected = [[int((q != d).sum()) for d in database] for q in queries]
    assert hamming_distance(queries, database).tolist() == expected


@pytest.mark.parametrize("bits", [1, 8, 13])
def test_signs_of_packed_codes_have_the_bits_that_are_given(bits, generator):
    codes = random_codes(6, bits, generator)
    assert torch.equal(as_signs(pack(codes), bits), codes)
    assert torch.equal(as_signs(codes, bits), codes)
    assert as_signs(pack(codes)).shape == (6, -(-bits // 8) * 8)
    for form in (codes, pack(codes)):
        with pytest.raises(InputError, match="must (have|be)"):
            as_signs(form, bits + 8)
    with pytest.raises(InputError, match="bits must be a positive integer, got 0"):
        as_signs(codes, 0)


@pytest.mark.parametrize(
    "codes",
    [
        torch.ones(5, 8).to_sparse(),
        torch.ones(5, 8, device="meta"),
        torch.ones(5, 8).to(torch.float8_e4m3fn),
    ],
    ids=["sparse", "meta", "float8"],
)
def test_tensors_that_nothing_computes_with_are_refused(codes):
    with pytest.raises(InputError, match="codes must be a dense tensor of a common type"):
        pack(codes)


def test_packed_codes_are_a_tensor():
    with pytest.raises(InputError, match="packed codes must be a tensor, got list"):
        unpack([[1]], 8)
