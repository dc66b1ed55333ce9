"""LanceDB in a local folder."""

import itertools
import signal

import numpy as np
import pyarrow as pa
import pytest
import torch

from brcd_lightning.deployment.databases.database_images import DatabaseImages
from brcd_lightning.deployment.databases.push import push_codes
from brcd_lightning.deployment.image_index.verification import verify
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from code_folders import HOSTILE, clustered, killed_push, write_codes

lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed")
lance = pytest.importorskip("brcd_lightning.deployment.databases.lance")


@pytest.fixture
def address(tmp_path):
    return f"lance://{tmp_path}/a folder"


@pytest.fixture
def pushed(tmp_path, address):
    """Pushes codes and opens their table."""
    numbers = itertools.count()

    def push(codes, bits, *, table="brcd_codes", kind="flat", replace=False, **options):
        folder = write_codes(tmp_path / f"codes{next(numbers)}", codes, bits, **options)
        push_codes(folder, address, table=table, kind=kind, replace=replace)
        return lance.open_table(address, table)

    return push


def message_of(action):
    with pytest.raises(InputError) as told:
        action()
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("bits", [12, 64, 128])
def test_a_flat_table_gives_what_the_hamming_index_gives(bits, pushed):
    codes, queries = clustered(3000, bits), clustered(20, bits, seed=1)
    table = pushed(codes, bits, part_size=700)
    exact = HammingIndex.build(torch.from_numpy(codes), bits=bits, kind="flat")
    for query in queries:
        for k in (1, 100, 3000, 5000):
            found, truth = table.nearest(query, k, with_codes=True), exact.search(torch.from_numpy(query)[None], k)
            assert found.ids.tolist() == truth.ids[0].tolist(), "equal distances come by id"
            assert found.distances.tolist() == truth.distances[0].tolist()
            assert (found.codes == codes[found.ids]).all()
            assert found.paths == [f"{number:06d}.png" for number in found.ids]
    assert (np.concatenate(list(table.codes())) == codes).all()
    found = verify(DatabaseImages(table), queries=20)
    assert (found.recall, found.empty_slots) == (1, 0)
    table.close()


def test_partitions_give_as_many_rows_as_are_asked_for(pushed):
    codes = clustered(6000, 64, prototypes=300)
    table = pushed(codes, 64, kind="ivf", part_size=4000)
    for k in (100, 1000, 6000, 9000):
        assert len(table.nearest(codes[0], k).ids) == min(k, 6000)
    found = verify(DatabaseImages(table), queries=50)
    assert found.recall > 0.95
    assert found.empty_slots == 0


def test_rescored_hits_are_those_of_the_hamming_index(pushed):
    codes = clustered(90, 64)
    images = DatabaseImages(pushed(codes, 64))
    exact = HammingIndex.build(torch.from_numpy(codes), bits=64, kind="flat")
    values = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    truth = exact.search(torch.from_numpy(codes[:1]), 9, rescore=values)
    hits = images.nearest(torch.from_numpy(codes[:1]), 9, rescore=values)
    assert [hit.id for hit in hits] == truth.ids[0].tolist()
    assert [hit.score for hit in hits] == truth.scores[0].tolist()


def test_names_are_data(pushed, address, tmp_path):
    codes = clustered(len(HOSTILE), 16)
    for name in ("brcd_codes", "UPPER", "a.b-c"):
        found = pushed(codes, 16, names=HOSTILE, table=name).nearest(codes[0], 100)
        assert [HOSTILE[number] for number in found.ids] == found.paths
        assert sorted(found.paths) == sorted(HOSTILE)
    before = sorted(tmp_path.rglob("*"))
    for name in ("", "..", ".", "a/b", "../x", "größe", "x'; drop table", "x" * 300):
        told = message_of(lambda name=name: push_codes(tmp_path / "codes0", address, table=name))
        assert "is named by letters, digits, underscores, hyphens and periods" in told
    assert sorted(tmp_path.rglob("*")) == before


def test_a_table_is_replaced_only_on_demand(pushed, address):
    first, second = clustered(50, 16), clustered(60, 24, seed=1)
    open_before = pushed(first, 16)
    refused = message_of(lambda: pushed(second, 24, encoder="other"))
    assert "holds 50 codes of student e0 in table 'brcd_codes' already; replace them by --replace" in refused
    assert (np.concatenate(list(lance.open_table(address, "brcd_codes").codes())) == first).all()
    table = pushed(second, 24, encoder="other", replace=True, kind="ivf")
    assert (table.description.encoder, table.description.count, table.description.kind) == ("other", 60, "ivf")
    assert (np.concatenate(list(table.codes())) == second).all()
    assert (np.concatenate(list(open_before.codes())) == first).all(), "who reads goes on reading"


def test_tables_of_others_are_never_touched(pushed, address):
    database = lancedb.connect(address.removeprefix("lance://"))
    database.create_table("brcd_codes", pa.table({"x": [7]}))
    for replace in (False, True):
        refused = message_of(lambda replace=replace: pushed(clustered(5, 16), 16, replace=replace))
        assert "was not written by brcd push" in refused
    assert "holds no table 'brcd_codes'" in message_of(lambda: lance.open_table(address, "brcd_codes"))
    assert database.open_table("brcd_codes").to_arrow()["x"].to_pylist() == [7]


@pytest.mark.slow
def test_a_killed_push_leaves_the_table_before_it(tmp_path, pushed, address):
    folder = write_codes(tmp_path / "new", clustered(1000, 16, seed=1), 16)
    killed_push(folder, address, signal.SIGKILL)
    assert "holds no table 'brcd_codes'" in message_of(lambda: lance.open_table(address, "brcd_codes"))
    before = clustered(50, 16)
    pushed(before, 16)
    killed_push(folder, address, signal.SIGKILL)
    assert (np.concatenate(list(lance.open_table(address, "brcd_codes").codes())) == before).all()


def test_a_push_that_ends_before_its_index_does_not_count(tmp_path, pushed, address, monkeypatch):
    codes = clustered(50, 16)
    folder = write_codes(tmp_path / "codes", codes, 16)

    def fails(*_, **__):
        raise RuntimeError("lance error: no space left, /somewhere/else.rs:1:2")

    with monkeypatch.context() as patch:
        patch.setattr(lance, "IvfFlat", fails)
        told = message_of(lambda: push_codes(folder, address, kind="ivf"))
        assert told == f"table 'brcd_codes' of {address}: lance error: no space left; try again when that is mended."
        assert "holds no table 'brcd_codes'" in message_of(lambda: lance.open_table(address, "brcd_codes"))
        push_codes(folder, address)
        message_of(lambda: push_codes(folder, address, kind="ivf", replace=True))
    assert lance.open_table(address, "brcd_codes").description.kind == "flat"


def test_a_damaged_part_leaves_nothing(tmp_path, address):
    folder = write_codes(tmp_path / "codes", clustered(200, 16), 16)
    push_codes(folder, address)
    # The status column stays whole, so that the damage shows only on the way.
    content = bytearray((folder / "part-00002.parquet").read_bytes())
    content[4:40] = b"x" * 36
    (folder / "part-00002.parquet").write_bytes(content)
    told = message_of(lambda: push_codes(folder, address, replace=True))
    assert "part-00002.parquet is not a part of codes" in told
    assert lance.open_table(address, "brcd_codes").description.count == 200


def test_what_cannot_be_read_or_written_is_one_line(tmp_path, address, pushed):
    assert "holds no table 'brcd_codes'" in message_of(lambda: lance.open_table(address, "brcd_codes"))
    assert not (tmp_path / "a folder").exists()
    (tmp_path / "file").write_text("")
    folder = write_codes(tmp_path / "codes", clustered(20, 16), 16)
    told = message_of(lambda: push_codes(folder, f"lance://{tmp_path}/file/x"))
    assert told.startswith(f"table 'brcd_codes' of lance://{tmp_path}/file/x: ")
    table = pushed(clustered(50, 16), 16)
    for path in (tmp_path / "a folder").rglob("*.lance"):
        if path.is_file():
            path.unlink()
    for action in (lambda: table.nearest(np.zeros(2, np.uint8), 3), lambda: list(table.codes())):
        assert message_of(action).startswith(f"table 'brcd_codes' of {address}: ")
