"""Files of format version 1, written by the release that had it."""

import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from brcd_lightning.search.old_index_file import PAGE
from conftest import clustered_codes

FILES = Path(__file__).parent / "files"
FLAT = FILES / "flat_with_ids_v1.index"  # 400 codes, ids from 5
IVF = FILES / "ivf_v1.index"  # the same codes without ids, of which number 3 was removed

pytestmark = pytest.mark.filterwarnings("ignore:.*earlier release:FutureWarning")


@pytest.fixture(scope="module")
def codes():
    return clustered_codes(400, 40, torch.Generator().manual_seed(2))


@pytest.mark.parametrize("mmap", [True, False])
def test_an_exact_index_finds_what_a_new_one_finds(codes, mmap):
    with pytest.warns(FutureWarning, match="earlier release"):
        old = HammingIndex.load(FLAT, bits=40, fingerprint="model-a", mmap=mmap)
    new = HammingIndex.build(codes, kind="flat", ids=torch.arange(400) + 5, fingerprint="model-a")
    assert old.description == new.description
    for one, other in zip(old.search(codes[:30], 15)[:2], new.search(codes[:30], 15)[:2], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mmap", [True, False])
def test_an_approximate_index_finds_its_codes(codes, mmap):
    old = HammingIndex.load(IVF, mmap=mmap)
    assert (old.kind, len(old), old.options) == ("ivf", 399, {"lists": 16, "probes": 16})
    found = old.search(codes[:9], 1)
    assert found.distances[[0, 1, 2, 4]].tolist() == [[0]] * 4
    assert 3 not in found.ids


def test_it_can_be_saved_in_the_new_format(tmp_path, codes):
    for path in (FLAT, IVF):
        old = HammingIndex.load(path)
        old.save(tmp_path / "new.index")
        new = HammingIndex.load(tmp_path / "new.index")
        assert torch.equal(old.search(codes[:9], 20).ids, new.search(codes[:9], 20).ids)


@pytest.mark.parametrize("file", [FLAT, IVF])
def test_every_flipped_bit_is_noticed(tmp_path, file):
    whole, path = file.read_bytes(), tmp_path / "x.index"
    header_end = whole.rindex(b"}", 0, PAGE) + 1
    for position in [*range(0, header_end, 7), *range(PAGE, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << position % 8)]) + whole[position + 1 :])
        with pytest.raises(InputError, match="damaged|not an index|version|truncated"):
            HammingIndex.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:60], "is truncated: it has 60 bytes, its header alone takes 4096"),
        (lambda content: content[:-1], "is truncated or was added to"),
        (lambda content: content + b"x", "is truncated or was added to"),
        (lambda content: content[:8] + b"\x09" + content[9:], "has version 9, this release reads version 1"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path, change, message):
    path = tmp_path / "x.index"
    path.write_bytes(change(FLAT.read_bytes()))
    with pytest.raises(InputError, match=message):
        HammingIndex.load(path)


def test_an_index_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="has bits 40, not 64"):
        HammingIndex.load(FLAT, bits=64)
    with pytest.raises(InputError, match="has fingerprint 'model-a', not 'model-b'"):
        HammingIndex.load(FLAT, fingerprint="model-b")


def forge(path, **change):
    """Another header text with the right digest; a value of None leaves its entry out."""
    content = bytearray(FLAT.read_bytes())
    magic, version, length, _ = struct.unpack_from("<8sII32s", content)
    values = json.loads(content[48 : 48 + length]) | change
    text = json.dumps({key: value for key, value in values.items() if value is not None}).encode()
    head = struct.pack("<8sII32s", magic, version, len(text), hashlib.sha256(text).digest()) + text
    path.write_bytes(head.ljust(PAGE, b"\0") + content[PAGE:])


@pytest.mark.parametrize(
    "change",
    [
        {"kind": None},
        {"count": None},
        {"count": 5},
        {"count": "x"},
        {"bits": 8},
        {"bits": 0},
        {"sections": {}},
        {"sections": [1]},
        {"sections": {"codes": "x"}},
        {"sections": {"codes": [10**9, 2000]}},
        {"sections": {"codes": [-100, 2000]}},
        {"sections": {"codes": [PAGE, -1]}},
    ],
    ids=range(12),
)
def test_a_header_that_lies_is_refused(tmp_path, change):
    forge(tmp_path / "x.index", **change)
    with pytest.raises(InputError, match=r"index .*x\.index is (damaged|truncated)"):
        HammingIndex.load(tmp_path / "x.index")
