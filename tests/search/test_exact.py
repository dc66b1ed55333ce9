import multiprocessing

import pytest
import torch

from both_devices import DEVICES, difference, searches
from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.errors import InputError
from brcd_lightning.search import exact
from brcd_lightning.search.exact import _nearest_by_products, as_bytes, nearest_codes, scan, scan_in_parts, scan_radius
from conftest import random_codes


@pytest.mark.parametrize("count", [9, 20])  # codes of many queries are padded
@pytest.mark.parametrize("bits", [3, 8, 20, 40, 64, 72, 200, 520])
def test_equals_a_stable_sort_of_all_distances(bits, count, generator):
    queries, database = random_codes(count, bits, generator), random_codes(120, bits, generator)
    distances, positions = nearest_codes(queries, database, 50)
    expected = hamming_distance(queries, database).sort(dim=1, stable=True)
    assert torch.equal(distances.long(), expected.values[:, :50])
    assert torch.equal(positions, expected.indices[:, :50])


def test_matrix_products_give_the_same(generator):
    queries, database = random_codes(9, 12, generator), random_codes(120, 12, generator)
    for found, expected in zip(
        _nearest_by_products(queries, database, 50), nearest_codes(queries, database, 50), strict=True
    ):
        assert torch.equal(found.long(), expected.long())


def test_k_beyond_the_database_returns_all_of_it(generator):
    _, positions = nearest_codes(random_codes(2, 8, generator), random_codes(5, 8, generator), 99)
    assert positions.sort(dim=1).values.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_different_bits_are_refused(generator):
    with pytest.raises(InputError, match="same bits, got shapes .2, 8. and .5, 16."):
        nearest_codes(random_codes(2, 8, generator), random_codes(5, 16, generator), 1)


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_k_must_be_a_positive_integer(k, generator):
    with pytest.raises(InputError, match="k must be a positive integer"):
        nearest_codes(random_codes(2, 8, generator), random_codes(5, 8, generator), k)


def test_packed_codes_give_the_same(generator):
    queries, database = random_codes(9, 20, generator), random_codes(120, 20, generator)
    packed = nearest_codes(pack(queries), pack(database), 30)
    for found, expected in zip(packed, nearest_codes(queries, database, 30), strict=True):
        assert torch.equal(found, expected)
    with pytest.raises(InputError, match="both be packed"):
        nearest_codes(pack(queries), database, 3)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("queries", [1, 2, 40])
def test_threads_do_not_change_the_result(threads, queries, generator, monkeypatch):
    arrays = as_bytes(random_codes(queries, 8, generator)), as_bytes(random_codes(203, 8, generator))
    expected = hamming_distance(*(torch.from_numpy(a) for a in arrays)).sort(dim=1, stable=True)
    monkeypatch.setattr("faiss.omp_get_max_threads", lambda: threads)
    monkeypatch.setattr(exact, "_ROWS_PER_PART", 10)
    for search in (scan, scan_in_parts):
        for k in (1, 40, 203):
            distances, positions = search(*arrays, k)
            assert distances.tolist() == expected.values[:, :k].tolist()
            assert positions.tolist() == expected.indices[:, :k].tolist()


@pytest.mark.parametrize("radius", [0, 3, 12])
def test_radius_finds_all_within_it(radius, generator):
    queries, database = random_codes(5, 12, generator), random_codes(200, 12, generator)
    hits = scan_radius(as_bytes(queries), as_bytes(database), radius)
    for q, distances in enumerate(hamming_distance(queries, database)):
        order = distances.argsort(stable=True)
        order = order[distances[order] <= radius]
        rows = slice(hits.offsets[q], hits.offsets[q + 1])
        assert hits.positions[rows].tolist() == order.tolist()
        assert hits.distances[rows].tolist() == distances[order].tolist()


def test_a_forked_process_scans_in_parts_too(generator, monkeypatch):
    monkeypatch.setattr("faiss.omp_get_max_threads", lambda: 2)
    monkeypatch.setattr(exact, "_ROWS_PER_PART", 10)
    arrays = as_bytes(random_codes(1, 8, generator)), as_bytes(random_codes(203, 8, generator))
    expected = scan_in_parts(*arrays, 5)[1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(scan_in_parts(*arrays, 5)[1]))
    child.start()
    assert (queue.get(timeout=60) == expected).all()
    child.join()


@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_gives_the_same(device):
    assert difference(searches(device), searches("cpu")) == 0
