"""A damaged, foreign or unfitting index file is one clear error, never a wrong result."""

import json
import os
import subprocess
import sys

import faiss
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from brcd_lightning.codes import pack
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex, index_file
from brcd_lightning.search.approximate import OPTIONS
from brcd_lightning.search.index_file import PAGE
from brcd_lightning.search.kinds import KINDS
from conftest import clustered_codes

APPROXIMATE = tuple(OPTIONS)


@pytest.fixture(scope="module")
def codes():
    return clustered_codes(400, 40, torch.Generator().manual_seed(2))


@pytest.fixture
def saved(tmp_path, codes):
    path = tmp_path / "codes.index"
    HammingIndex.build(codes, kind="flat", ids=torch.arange(400) + 5, fingerprint="model-a").save(path)
    return path


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_index_finds_the_same(tmp_path, codes, kind, mmap):
    index = HammingIndex.build(codes, kind=kind, ids=torch.arange(400) * 3, fingerprint="model-a")
    index.save(tmp_path / "x.index")
    loaded = HammingIndex.load(tmp_path / "x.index", bits=40, fingerprint="model-a", mmap=mmap)
    one, other = index.search(codes[:30], 15), loaded.search(codes[:30], 15)
    assert torch.equal(one.distances, other.distances)
    assert torch.equal(one.ids, other.ids)
    assert (loaded.kind, loaded.recall, loaded.options, len(loaded)) == (
        index.kind,
        index.recall,
        index.options,
        len(index),
    )
    if mmap:
        for change in (lambda: loaded.add(codes[:1]), lambda: loaded.remove(torch.tensor([0]))):
            with pytest.raises(InputError, match="read-only"):
                change()
    else:
        loaded.add(codes[:1], torch.tensor([1]))
        assert len(loaded) == 401


def test_an_index_after_removals_survives_saving(tmp_path, codes):
    for kind in ("flat", "ivf"):
        index = HammingIndex.build(codes, kind=kind)
        index.remove(torch.arange(0, 400, 3))
        index.save(tmp_path / "x.index")
        loaded = HammingIndex.load(tmp_path / "x.index", mmap=False)
        assert torch.equal(index.search(codes[:9], 20).ids, loaded.search(codes[:9], 20).ids)
        loaded.add(-codes[:1])
        assert loaded.search(-codes[:1], 1).ids.item() == 399  # one behind the largest that is left


def test_mapped_codes_stay_on_disk_when_the_file_is_replaced(saved, codes):
    loaded = HammingIndex.load(saved)
    expected = loaded.search(codes[:5], 5).ids
    HammingIndex.build(-codes, kind="flat").save(saved)
    assert torch.equal(loaded.search(codes[:5], 5).ids, expected)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_every_flipped_bit_is_noticed(tmp_path, codes, kind):
    path = tmp_path / "x.index"
    HammingIndex.build(codes, kind=kind).save(path)
    whole = path.read_bytes()
    used = [*range(0, PAGE, 7), *range(PAGE, len(whole), 41), len(whole) - 1]
    for position in used:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << position % 8)]) + whole[position + 1 :])
        with pytest.raises(InputError, match=r"damaged|not an index|version|truncated"):
            HammingIndex.load(path)


@pytest.mark.parametrize("size", [0, 5, 60, PAGE - 1, PAGE, PAGE + 100, -1])
def test_a_truncated_file_is_refused(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(InputError, match="truncated|not an index"):
        HammingIndex.load(saved)


def test_a_longer_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"x")
    with pytest.raises(InputError, match="was added to"):
        HammingIndex.load(saved)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "x.index"
    path.write_bytes(b"\x89PNG" + bytes(10_000))
    with pytest.raises(InputError, match="is not an index file"):
        HammingIndex.load(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        HammingIndex.load(tmp_path / "absent.index")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        HammingIndex.load(tmp_path)


def test_another_version_is_refused(saved):
    content = saved.read_bytes()
    saved.write_bytes(content.replace(b'\\"version\\": 2', b'\\"version\\": 9'))
    with pytest.raises(InputError, match="has version 9, this release reads versions 1 and 2"):
        HammingIndex.load(saved)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_safetensors_reads_the_file(tmp_path, codes, kind):
    index, path = HammingIndex.build(codes, kind=kind, ids=torch.arange(400) + 5), tmp_path / "x.index"
    index.save(path)
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["hamming_index"])["count"] == 400
        assert file.get_tensor("ids").tolist() == list(range(5, 405))
        stored = file.get_tensor("codes")
    if kind == "flat":
        assert (stored == pack(codes).numpy()).all()
    else:
        assert faiss.deserialize_index_binary(stored).ntotal == 400


def test_files_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for metadata in (None, {"made_by": "another"}, {"hamming_index": "[]"}, {"hamming_index": "{}"}):
        save_file({"codes": np.zeros((3, 5), dtype=np.uint8)}, path, metadata)
        with pytest.raises(InputError, match="is not an index file"):
            HammingIndex.load(path)


def test_a_fingerprint_may_look_like_the_header(tmp_path, codes):
    path, fingerprint = tmp_path / "x.index", f'"header_sha256": "{"0" * 64}"'
    HammingIndex.build(codes, kind="flat", fingerprint=fingerprint).save(path)
    assert HammingIndex.load(path, fingerprint=fingerprint).fingerprint == fingerprint


def forge(path, change):
    """Changes tensors and description of a file as `change` does, and gives it a header whose digest is right."""
    content = path.read_bytes()
    tensors = json.loads(content[8:PAGE])
    values = json.loads(tensors.pop("__metadata__")["hamming_index"])
    change(tensors, values)
    header = index_file._header(values, tensors)
    path.write_bytes((PAGE - 8).to_bytes(8, "little") + header + content[PAGE:])


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, values: values.pop("kind"),
        lambda tensors, values: values.pop("count"),
        lambda tensors, values: values.pop("checksum"),
        lambda tensors, values: values.update(count=5),
        lambda tensors, values: values.update(count="x"),
        lambda tensors, values: values.update(bits=8),
        lambda tensors, values: values.update(kind="ivf"),
        lambda tensors, values: values.update(kind=5),
        lambda tensors, values: values.update(checksum=5),
        lambda tensors, values: tensors.clear(),
        lambda tensors, values: tensors.update(codes=[1]),
        lambda tensors, values: tensors["codes"].update(dtype="F32"),
        lambda tensors, values: tensors["codes"].update(dtype=[1]),
        lambda tensors, values: tensors["codes"].update(shape="x"),
        lambda tensors, values: tensors["codes"].update(shape=[2000]),
        lambda tensors, values: tensors["codes"].update(shape=[-400, -5]),
        lambda tensors, values: tensors["codes"].update(data_offsets="x"),
        lambda tensors, values: tensors["codes"].update(data_offsets=[3200, -1]),
        lambda tensors, values: tensors["codes"].update(data_offsets=[-5, 1995]),
        lambda tensors, values: tensors["ids"].update(shape=[399], data_offsets=[0, 3192]),
        lambda tensors, values: tensors["ids"].update(dtype="U8", shape=[400], data_offsets=[0, 400]),
    ],
    ids=range(21),
)
def test_a_header_that_lies_is_refused(saved, codes, change):
    forge(saved, change)
    with pytest.raises(InputError, match=r"index .*codes\.index is (damaged|truncated)"):
        HammingIndex.load(saved).search(codes[:3], 5)


@pytest.mark.parametrize("kind", APPROXIMATE)
@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, values: values.update(kind="flat"),
        lambda tensors, values: values.update(count=5),
        lambda tensors, values: values.update(bits=64),
    ],
    ids=["kind", "count", "bits"],
)
def test_an_approximate_index_passes_for_no_other(tmp_path, codes, kind, change):
    path = tmp_path / "x.index"
    HammingIndex.build(codes, kind=kind).save(path)
    forge(path, change)
    with pytest.raises(InputError, match=r"index .*x\.index is damaged"):
        HammingIndex.load(path)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_content_that_faiss_cannot_read_is_one_line(tmp_path, codes, kind):
    path = tmp_path / "x.index"
    HammingIndex.build(codes, kind=kind).save(path)
    path.write_bytes(path.read_bytes()[:PAGE] + b"junk" + path.read_bytes()[PAGE + 4 :])
    with pytest.raises(InputError, match="faiss cannot read it; build it again"):
        HammingIndex.load(path, verify=False)


def test_ids_of_other_codes_are_refused(tmp_path, codes):
    path = tmp_path / "x.index"
    index = HammingIndex.build(codes, kind="ivf", ids=torch.arange(400) + 5)
    index.remove(torch.tensor([7]))
    index.save(path)
    assert len(HammingIndex.load(path)) == 399
    content = bytearray(path.read_bytes())
    content[PAGE + 8 * 2 : PAGE + 8 * 3] = (9).to_bytes(8, "little")  # the place of the removed one
    path.write_bytes(content)
    with pytest.raises(InputError, match="its ids do not belong to its codes"):
        HammingIndex.load(path, verify=False)


def test_an_index_that_does_not_fit_is_refused(saved, codes):
    with pytest.raises(InputError, match="has bits 40, not 64"):
        HammingIndex.load(saved, bits=64)
    with pytest.raises(InputError, match="has fingerprint 'model-a', not 'model-b'"):
        HammingIndex.load(saved, fingerprint="model-b")
    with pytest.raises(InputError, match="queries must have 40 bits, got 32"):
        HammingIndex.load(saved).search(codes[:, :32], 3)


def test_a_description_too_long_for_the_header_is_refused(tmp_path, codes):
    index = HammingIndex.build(codes, kind="flat", fingerprint="x" * 5000)
    with pytest.raises(InputError, match="must fit 4096 bytes"):
        index.save(tmp_path / "x.index")
    assert not list(tmp_path.iterdir())


KILLED_SAVE = """
import os, signal, sys, torch
from pathlib import Path
from brcd_lightning.search import HammingIndex
moment, path = sys.argv[1:]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if moment == "rename":
    os.replace = die
index = HammingIndex.build(torch.ones(1000, 64), kind="flat")
if moment == "content":
    write = index._engine.write
    index._engine.write = lambda sink: (sink(b"half"), die())
index.save(path)
"""


@pytest.mark.parametrize("moment", ["content", "rename"])
def test_a_killed_save_leaves_the_older_file(saved, codes, moment):
    before = saved.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED_SAVE, moment, str(saved)], env=dict(os.environ), check=False)
    assert done.returncode == -9
    assert saved.read_bytes() == before
    assert len(HammingIndex.load(saved)) == 400


def test_an_emptied_index_survives_saving(tmp_path, codes):
    index = HammingIndex.build(codes, kind="flat")
    index.remove(torch.arange(400))
    index.save(tmp_path / "x.index")
    loaded = HammingIndex.load(tmp_path / "x.index", mmap=False)
    assert len(loaded) == 0
    loaded.add(codes[:2])
    assert loaded.search(codes[:2], 1).distances.tolist() == [[0], [0]]


def test_a_place_that_cannot_be_written_is_named(tmp_path, codes):
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        HammingIndex.build(codes, kind="flat").save(tmp_path)


def test_a_pipe_is_not_waited_for_and_a_name_may_be_impossible(tmp_path):
    os.mkfifo(tmp_path / "pipe.index")
    with pytest.raises(InputError, match=r"pipe\.index cannot be read: it is a pipe or a device"):
        HammingIndex.load(tmp_path / "pipe.index")
    with pytest.raises(InputError, match="cannot be read: embedded null byte"):
        HammingIndex.load("a\0b")


@pytest.mark.parametrize("wrong", [None, 5, [], b"a.index"])
def test_what_is_no_path_is_said(codes, wrong):
    index = HammingIndex.build(codes)
    for use in (index.save, HammingIndex.load):
        with pytest.raises(InputError, match="path must be a path or text, got"):
            use(wrong)


def test_a_name_that_no_file_can_have_is_said(tmp_path, codes):
    with pytest.raises(InputError, match="cannot be written: embedded null byte"):
        HammingIndex.build(codes).save(str(tmp_path / "a\0b"))


def test_saving_to_a_link_replaces_it_and_leaves_what_it_names(tmp_path, codes):
    (tmp_path / "named.index").write_bytes(b"precious")
    (tmp_path / "link.index").symlink_to(tmp_path / "named.index")
    HammingIndex.build(codes).save(tmp_path / "link.index")
    assert (tmp_path / "named.index").read_bytes() == b"precious"
    assert not (tmp_path / "link.index").is_symlink()
    assert len(HammingIndex.load(tmp_path / "link.index")) == len(codes)
