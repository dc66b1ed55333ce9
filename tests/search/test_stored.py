import hashlib
from dataclasses import replace

import numpy as np
import pytest

from brcd_lightning.errors import InputError
from brcd_lightning.search.stored import IndexDescription, StoredArray, StoredIndex

DESCRIPTION = IndexDescription(bits=12, kind="flat", fingerprint="", options={}, recall=1.0)


@pytest.fixture
def stored(tmp_path):
    path, content = tmp_path / "x.index", np.array([7, 9], dtype="<i8").tobytes() + bytes(range(6))
    path.write_bytes(b"header" + content)
    arrays = {"ids": StoredArray("<i8", (2,), 6), "codes": StoredArray("|u1", (3, 2), 22)}
    arrays["nothing"] = StoredArray("|u1", (0, 2), 28)
    return StoredIndex(path, DESCRIPTION, arrays, 6, hashlib.sha256(content).hexdigest(), 3)


def test_a_header_that_agrees_with_itself_is_taken(stored):
    arrays = stored.arrays | {"ids": StoredArray("<i8", (3,), 6)}
    replace(stored, arrays=arrays).check_header()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 0}, "0 bits"),
        ({"bits": True}, "True bits"),
        ({"kind": "auto"}, "kind 'auto'"),
        ({"fingerprint": None}, "no fingerprint or options"),
        ({"options": [1]}, "no fingerprint or options"),
        ({"recall": "high"}, "recall 'high'"),
        ({"bits": 40}, r"codes of shape \(3, 2\) for 3 of 5 bytes"),
    ],
)
def test_a_description_of_no_index_is_named(stored, change, said):
    with pytest.raises(InputError, match=f"index .*x.index is damaged: its header says {said}; build it again"):
        replace(stored, description=replace(DESCRIPTION, **change)).check_header()


def test_ids_that_do_not_belong_to_the_codes_are_named(stored):
    with pytest.raises(InputError, match="ids that do not belong to its codes"):
        stored.check_header()


def test_a_description_takes_its_own_fields():
    values = {"bits": 12, "kind": "flat", "fingerprint": "", "options": {}, "recall": 1.0, "count": 5}
    assert IndexDescription.from_stored(values) == DESCRIPTION
    assert DESCRIPTION.code_bytes == 2


@pytest.mark.parametrize("mmap", [True, False])
def test_arrays_are_read_from_their_places(stored, mmap):
    assert stored.array("ids", mmap=mmap).tolist() == [7, 9]
    codes = stored.array("codes", mmap=mmap)
    assert codes.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert codes.flags.writeable != mmap
    assert stored.array("nothing", mmap=mmap).shape == (0, 2)
    assert [stored.arrays[name].end for name in ("ids", "codes", "nothing")] == [22, 28, 28]


def test_changed_content_is_noticed(stored):
    stored.check_content()
    content = stored.path.read_bytes()
    stored.path.write_bytes(content[:-1] + b"\xff")
    with pytest.raises(InputError, match="is damaged: its content does not match its checksum"):
        stored.check_content()
