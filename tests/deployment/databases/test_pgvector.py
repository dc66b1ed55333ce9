"""PostgreSQL with pgvector: a real server, which `postgres_server` starts and stops."""

import itertools
import re
import signal
import time

import numpy as np
import pytest
import torch

from brcd_lightning.deployment.databases.database_images import DatabaseImages
from brcd_lightning.deployment.databases.push import push_codes
from brcd_lightning.deployment.image_index.verification import verify
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from code_folders import HOSTILE, clustered, killed_push, write_codes
from postgres_server import PASSWORD

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
pgvector = pytest.importorskip("brcd_lightning.deployment.databases.pgvector")


@pytest.fixture
def pushed(tmp_path, postgres_address):
    """Pushes codes and opens their table."""
    opened, numbers = [], itertools.count()

    def push(codes, bits, *, table="brcd_codes", kind="flat", replace=False, **options):
        folder = write_codes(tmp_path / f"codes{next(numbers)}", codes, bits, **options)
        push_codes(folder, postgres_address, table=table, kind=kind, replace=replace)
        opened.append(pgvector.open_table(postgres_address, table))
        return opened[-1]

    yield push
    for each in opened:
        each.close()


def sql(address, *commands):
    with psycopg.connect(address, autocommit=True) as connection:
        return [connection.execute(each) for each in commands][-1].fetchall()


def tables(address):
    return {name for (name,) in sql(address, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ 'brcd'")}


def message_of(action):
    with pytest.raises(InputError) as told:
        action()
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("bits", [12, 64])
def test_codes_are_bit_strings_the_first_bit_first(bits):
    codes = clustered(20, bits)
    strings = pgvector.bit_strings(codes, bits)
    assert {len(each) for each in strings} == {bits}
    assert strings[3] == "".join(str(codes[3, bit // 8] >> bit % 8 & 1) for bit in range(bits))
    assert (pgvector.packed(strings, bits) == codes).all()
    assert pgvector.packed([], bits).shape == (0, codes.shape[1])


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


def test_rescored_hits_are_those_of_the_hamming_index(pushed):
    codes = clustered(2000, 64)
    images = DatabaseImages(pushed(codes, 64))
    exact = HammingIndex.build(torch.from_numpy(codes), bits=64, kind="flat")
    values = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    truth = exact.search(torch.from_numpy(codes[:1]), 10, rescore=values)
    hits = images.nearest(torch.from_numpy(codes[:1]), 10, rescore=values)
    assert [(hit.id, hit.score) for hit in hits] == list(
        zip(truth.ids[0].tolist(), truth.scores[0].tolist(), strict=True)
    )


def test_a_graph_gives_as_many_rows_as_are_asked_for(pushed, postgres_address):
    codes = clustered(6000, 64, prototypes=300)
    table = pushed(codes, 64, kind="hnsw", part_size=4000)
    (query,) = pgvector.bit_strings(codes[:1], 64)
    order = f"SELECT id FROM brcd_codes ORDER BY code <~> '{query}' LIMIT 100"
    assert "Index Scan" in str(sql(postgres_address, f"EXPLAIN {order}")), "the planner takes the graph"
    assert len(sql(postgres_address, order)) == 40, "what pgvector does of its own accord"
    for k in (100, 1000):
        assert len(table.nearest(codes[0], k).ids) == k
    found = verify(DatabaseImages(table), queries=50, k=100)
    assert found.recall > 0.95
    assert found.empty_slots == 0
    images = DatabaseImages(table)
    for k in (2000, 9000):
        ranked = images.ranked(torch.from_numpy(codes[:1]), k)
        assert len(ranked.hits) + ranked.empty_slots == min(k, 6000)


def test_names_are_data(pushed, postgres_address):
    codes = clustered(len(HOSTILE), 16)
    hostile = 'x"; drop table brcd_codes; --'
    for name in ("brcd_codes", hostile, "größe 雪 %s {}", "UPPER", "a.b", "x" * 63):
        table = pushed(codes, 16, names=HOSTILE, table=name, kind="hnsw")
        found = table.nearest(codes[0], 100)
        assert sorted(found.paths) == sorted(HOSTILE)
        assert [HOSTILE[number] for number in found.ids] == found.paths
    assert {"brcd_codes"} <= tables(postgres_address)
    assert sql(postgres_address, "SELECT count(*) FROM brcd_codes") == [(len(HOSTILE),)]
    for name in ("", "x" * 64, "雪" * 22, "a\0b"):
        assert "a table's name must have 1 to 63 bytes" in message_of(
            lambda name=name: pgvector.open_table(postgres_address, name)
        )


def test_a_table_is_replaced_only_on_demand(pushed, postgres_address):
    first, second = clustered(50, 16), clustered(60, 24, seed=1)
    pushed(first, 16).close()
    refused = message_of(lambda: pushed(second, 24, encoder="other"))
    assert "holds 50 codes of student e0 in table 'brcd_codes' already; replace them by --replace" in refused
    table = pgvector.open_table(postgres_address, "brcd_codes")
    assert (np.concatenate(list(table.codes())) == first).all()
    table.close()
    table = pushed(second, 24, encoder="other", replace=True, kind="hnsw", part_size=64, root="/new")
    assert (table.description.encoder, table.description.count, table.description.kind) == ("other", 60, "hnsw")
    assert (np.concatenate(list(table.codes())) == second).all()
    assert tables(postgres_address) == {"brcd_codes"}


def test_tables_of_others_are_never_touched(pushed, postgres_address):
    sql(postgres_address, "CREATE TABLE brcd_codes (x int); INSERT INTO brcd_codes VALUES (7)", "SELECT 1")
    for replace in (False, True):
        refused = message_of(lambda replace=replace: pushed(clustered(5, 16), 16, replace=replace))
        assert "table 'brcd_codes' of postgresql://" in refused
        assert "was not written by brcd push" in refused
    assert "was not written by brcd push" in message_of(lambda: pgvector.open_table(postgres_address, "brcd_codes"))
    assert sql(postgres_address, "SELECT x FROM brcd_codes") == [(7,)]
    assert "holds no table 'nothing'" in message_of(lambda: pgvector.open_table(postgres_address, "nothing"))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_push_leaves_the_table_before_it(tmp_path, pushed, postgres_address, ending):
    before = clustered(50, 16)
    table = pushed(before, 16)
    killed_push(write_codes(tmp_path / "new", clustered(1000, 16, seed=1), 16), postgres_address, ending)
    running = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'COPY' AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 20
    while sql(postgres_address, running) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert tables(postgres_address) == {"brcd_codes"}
    assert (np.concatenate(list(table.codes())) == before).all()


def test_a_damaged_part_leaves_nothing(tmp_path, postgres_address):
    folder = write_codes(tmp_path / "codes", clustered(200, 16), 16)
    push_codes(folder, postgres_address)
    (folder / "part-00002.parquet").write_bytes((folder / "part-00002.parquet").read_bytes()[:-9])
    refused = message_of(lambda: push_codes(folder, postgres_address, replace=True))
    assert "part-00002.parquet is not a part of codes" in refused
    assert sql(postgres_address, "SELECT count(*) FROM brcd_codes") == [(200,)]
    assert tables(postgres_address) == {"brcd_codes"}


def test_of_two_pushes_at_once_the_first_wins(tmp_path, postgres_address, monkeypatch):
    folder = write_codes(tmp_path / "codes", clustered(20, 16), 16)
    copy = pgvector._copy

    def while_another_pushes(*arguments):
        monkeypatch.setattr(pgvector, "_copy", copy)
        push_codes(folder, postgres_address)
        copy(*arguments)

    monkeypatch.setattr(pgvector, "_copy", while_another_pushes)
    assert "holds 20 codes of student e0" in message_of(lambda: push_codes(folder, postgres_address))
    assert tables(postgres_address) == {"brcd_codes"}


def test_a_server_that_goes_away_is_one_line(pushed, postgres_address):
    table = pushed(clustered(50, 16), 16)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    sql(postgres_address, others + "pg_backend_pid()")
    for action in (lambda: table.nearest(np.zeros(2, np.uint8), 1), lambda: list(table.codes())):
        assert re.match(r"postgresql://postgres@.*: .*connection.*; try again", message_of(action))


def test_wrong_addresses_are_one_line_without_the_password(postgres_address):
    options = postgres_address.partition("?")[2]
    cases = {
        f"postgresql://guarded:{PASSWORD}x@/postgres?{options}": "password authentication failed",
        f"postgresql://guarded:{PASSWORD}@/nowhere?{options}": 'database "nowhere" does not exist',
        f"postgresql://guarded:{PASSWORD}@/postgres?host=/nowhere": "No such file or directory",
        f"postgresql://guarded:{PASSWORD}@127.0.0.1:1/postgres": "Connection refused",
        f"postgresql://guarded:{PASSWORD}%zz@127.0.0.1:1/postgres": "is not an address of PostgreSQL",
        f"postgresql://guarded:{PASSWORD}@127.0.0.1/postgres?nonsense=1": "is not an address of PostgreSQL",
    }
    for address, expected in cases.items():
        told = message_of(lambda address=address: pgvector.open_table(address, "brcd_codes"))
        assert expected in told
        assert "postgresql://guarded@" in told
        assert PASSWORD not in told
        assert "s3cret" not in told


def test_a_reader_needs_the_right_to_read_alone(pushed, postgres_address):
    pushed(clustered(50, 16), 16)
    name, options = re.search(r"/(\w+)\?(.*)", postgres_address).groups()
    guarded = f"postgresql://guarded:{PASSWORD}@/{name}?{options}"
    table = pgvector.open_table(guarded, "brcd_codes")
    assert "permission denied for table brcd_codes" in message_of(lambda: table.nearest(np.zeros(2, np.uint8), 1))
    sql(postgres_address, "GRANT SELECT ON brcd_codes TO guarded", "SELECT 1")
    assert len(table.nearest(np.zeros(2, np.uint8), 7).ids) == 7
    table.close()


def test_the_extension_is_made_where_it_is_missing_and_named_where_it_cannot_be(tmp_path, pushed, postgres_address):
    folder = write_codes(tmp_path / "codes", clustered(20, 16), 16)
    name, options = re.search(r"/(\w+)\?(.*)", postgres_address).groups()
    sql(postgres_address, "GRANT ALL ON SCHEMA public TO guarded", "SELECT 1")
    guarded = f"postgresql://guarded:{PASSWORD}@/{name}?{options}"
    assert "permission denied to create extension" in message_of(lambda: push_codes(folder, guarded))
    pushed(clustered(20, 16), 16).close()
    push_codes(folder, guarded, table="of_guarded")
    sql(postgres_address, "CREATE SCHEMA away; ALTER EXTENSION vector SET SCHEMA away", "SELECT 1")
    told = message_of(lambda: pgvector.open_table(postgres_address, "brcd_codes"))
    assert "has pgvector in schema 'away'; put that on the user's search_path" in told
    sql(postgres_address, "DROP EXTENSION vector", "SELECT 1")
    assert "lacks the extension vector" in message_of(lambda: pgvector.open_table(postgres_address, "brcd_codes"))


def test_an_old_extension_is_named(pushed, postgres_address, monkeypatch):
    pushed(clustered(20, 16), 16)
    monkeypatch.setattr(pgvector, "_OLDEST", (99, 1))
    told = message_of(lambda: pgvector.open_table(postgres_address, "brcd_codes"))
    assert re.search(r"has pgvector 0\.\d+\.\d+, and 99\.1 is needed; update it there: ALTER EXTENSION", told)


def test_a_table_that_appears_at_the_last_moment_is_not_replaced(tmp_path, pushed, postgres_address, monkeypatch):
    before = clustered(20, 16)
    table = pushed(before, 16)
    monkeypatch.setattr(pgvector, "_require_free", lambda *_: None)
    folder = write_codes(tmp_path / "codes", clustered(30, 16, seed=1), 16)
    assert "another push was faster, see --replace" in message_of(lambda: push_codes(folder, postgres_address))
    assert (np.concatenate(list(table.codes())) == before).all()


def test_the_graph_goes_by_what_the_address_sets(pushed, postgres_address):
    """As docs/search.md says of maintenance_work_mem."""
    asked = f"{postgres_address}&options=-cmaintenance_work_mem%3D321MB"
    assert sql(asked, "SHOW maintenance_work_mem") == [("321MB",)]
