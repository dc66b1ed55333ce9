import numpy as np
import pytest

from brcd_lightning.deployment.databases import push
from brcd_lightning.deployment.databases.push import push_codes, rows_of
from brcd_lightning.deployment.encoding.parts import part_path
from brcd_lightning.errors import InputError
from code_folders import HOSTILE, clustered, write_codes


class Recorded:
    """A backend that keeps what it is given."""

    KINDS = ("flat", "fast")
    FULL = ()

    def __init__(self):
        self.written = []

    def require_free(self, address, table, replace):
        if table in self.FULL and not replace:
            raise InputError("full")

    def write_table(self, address, table, description, rows, replace):
        self.written.append((address, table, description, list(rows), replace))


@pytest.fixture
def backend(monkeypatch):
    found = Recorded()
    monkeypatch.setattr(push, "backend_of", lambda address: found)
    return found


def test_rows_come_in_blocks_without_what_cannot_be_read(tmp_path):
    codes = clustered(10, 16)
    write_codes(tmp_path / "codes", codes, 16, unreadable=(0, 5, 6, 7), part_size=4)
    blocks = list(rows_of(tmp_path / "codes", batch=2))
    assert max(len(block.ids) for block in blocks) == 2
    assert np.concatenate([block.ids for block in blocks]).tolist() == list(range(6))
    assert [path for block in blocks for path in block.paths] == [f"{number:06d}.png" for number in (1, 2, 3, 4, 8, 9)]
    assert (np.concatenate([block.codes for block in blocks]) == codes[[1, 2, 3, 4, 8, 9]]).all()


def test_a_push_tells_the_database_what_the_codes_are(tmp_path, backend):
    write_codes(tmp_path / "codes", clustered(len(HOSTILE), 12), 12, names=HOSTILE, unreadable=(1,), role="teacher")
    done = push_codes(tmp_path / "codes", "lance://x", table="t", replace=True)
    ((address, table, description, blocks, replace),) = backend.written
    assert (address, table, replace) == ("lance://x", "t", True)
    assert description == done.description
    told = (description.bits, description.role, description.encoder, description.teacher, description.root)
    assert told == (12, "teacher", "e0", "t0", "/photos")
    assert (description.kind, description.count, done.left_out) == ("flat", len(HOSTILE) - 1, 1)
    assert [path for block in blocks for path in block.paths] == [HOSTILE[0], *HOSTILE[2:]]
    assert push_codes(tmp_path / "codes", "lance://x", kind="fast").description.kind == "fast"


def test_nothing_is_written_after_a_mistake(tmp_path, backend):
    backend.FULL = ("taken",)
    folder = write_codes(tmp_path / "codes", clustered(10, 16), 16, part_size=4)
    write_codes(tmp_path / "dark", clustered(2, 16), 16, unreadable=(0, 1))
    write_codes(tmp_path / "partial", clustered(10, 16), 16, part_size=4)
    part_path(tmp_path / "partial", 1).unlink()
    for codes, options, message in (
        (tmp_path / "nothing", {}, "is not a folder of codes that brcd encode has written"),
        (folder, {"kind": "tree"}, "--kind must be one of flat, fast, got 'tree'"),
        (folder, {"table": "taken"}, "full"),
        (tmp_path / "dark", {}, "holds no image that could be read"),
        (tmp_path / "partial", {}, "lacks 1 of 3 parts; run brcd encode again"),
    ):
        with pytest.raises(InputError, match=message):
            push_codes(codes, "lance://x", **options)
    assert not backend.written
