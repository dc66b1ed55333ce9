"""`HammingIndex.search` with real values of the queries."""

import pytest
import torch

from brcd_lightning.codes import hamming_distance, pack, sign
from brcd_lightning.errors import InputError
from brcd_lightning.search import BuildOptions, HammingIndex, index as module
from brcd_lightning.search.kinds import EXACT_KINDS, KINDS
from conftest import clustered_codes

BITS, ROWS = 36, 1500
EXHAUSTIVE = {"ivf": {"lists": 8, "probes": 8}, "multi_hash": {"tables": 2, "flips": 18}}
"""Options that make a kind read everything."""


@pytest.fixture(scope="module")
def codes():
    return clustered_codes(ROWS, BITS, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def values(codes):
    """Of queries near some codes; halves and quarters, so that scores tie."""
    generator = torch.Generator().manual_seed(2)
    return codes[:12] * torch.randint(-1, 5, (12, BITS), generator=generator) / 4


def slow_search(values, codes, ids, k, candidates):
    """Ids, distances and scores of one query by sorting twice in a loop."""
    distances = hamming_distance(sign(values)[None].long(), codes)[0].tolist()
    nearest = sorted(range(len(codes)), key=lambda row: (distances[row], row))[:candidates]
    scores = {row: float((values.double() * codes[row]).sum()) for row in nearest}
    best = sorted(nearest, key=lambda row: -scores[row])[:k]
    return [ids[row] for row in best], [distances[row] for row in best], [scores[row] for row in best]


def check(found, values, codes, ids, k, candidates):
    for query, rows in enumerate(zip(found.ids, found.distances, found.scores, strict=True)):
        expected = slow_search(values[query], codes, ids, k, candidates)
        assert tuple(row.tolist() for row in rows) == expected


def assert_equal(found, expected):
    for name in ("distances", "ids", "scores"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("kind", EXACT_KINDS)
@pytest.mark.parametrize(("k", "candidates"), [(3, None), (5, 5), (20, 400), (7, 9000), (2000, None)])
def test_exact_kinds_equal_a_slow_loop(codes, values, kind, k, candidates):
    found = HammingIndex.build(codes, kind=kind).search(sign(values), k, rescore=values, candidates=candidates)
    check(found, values, codes, range(ROWS), min(k, ROWS), 10 * k if candidates is None else candidates)
    assert found.empty_slots == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [BITS, 9, 64])
def test_scores_and_distances_are_those_of_the_ids(kind, bits):
    generator = torch.Generator().manual_seed(bits)
    codes = clustered_codes(ROWS, bits, generator)
    values = torch.randn(10, bits, generator=generator).tanh()
    index = HammingIndex.build(codes, ids=torch.arange(ROWS) + 7, kind=kind, build_options=BuildOptions(recall_k=20))
    found = index.search(pack(sign(values)), 30, rescore=values, candidates=200)
    filled = found.ids >= 0
    rows = (found.ids - 7).clamp(min=0)
    scores = (values.double()[:, None] * codes[rows]).sum(dim=2)
    assert torch.allclose(found.scores[filled], scores[filled], atol=1e-9)
    assert torch.equal(
        found.distances[filled].long(), hamming_distance(sign(values).long(), codes).gather(1, rows)[filled]
    )
    assert bool((found.scores[:, :-1] >= found.scores[:, 1:]).all())
    assert bool((found.distances[~filled] == bits + 1).all())
    assert bool((found.scores[~filled] == -torch.inf).all())
    assert found.empty_slots == int((~filled).sum())


@pytest.mark.parametrize("kind", EXHAUSTIVE)
def test_an_approximate_kind_that_reads_everything_equals_an_exact_one(codes, values, kind):
    options = {"candidates": ROWS, "rescore": values}
    exact = HammingIndex.build(codes, kind="flat").search(sign(values), 50, **options)
    found = HammingIndex.build(codes, kind=kind, **EXHAUSTIVE[kind]).search(sign(values), 50, **options)
    assert_equal(exact, found)


def test_few_found_leave_empty_slots(codes, values):
    found = HammingIndex.build(codes, kind="multi_hash", flips=0).search(sign(-values), 400, rescore=-values)
    assert found.empty_slots > 0
    assert bool((found.ids[found.scores == -torch.inf] == -1).all())


@pytest.mark.parametrize("kind", [*EXACT_KINDS, "ivf"])
def test_added_and_removed_codes(codes, values, kind):
    options = EXHAUSTIVE.get(kind, {})
    index = HammingIndex.build(codes[:1000], ids=torch.arange(1000) * 3, kind=kind, **options)
    index.remove(torch.arange(200) * 3)
    index.add(codes[1000:])
    ids = [*range(600, 3000, 3), *range(2998, 2998 + 500)]
    # The default ids follow the largest one.
    found = index.search(sign(values), 10, rescore=values, candidates=1300)
    check(found, values, codes[200:], ids, 10, 1300)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "auto"])
def test_a_mapped_index_finds_the_same(codes, values, kind, tmp_path):
    index = HammingIndex.build(codes, kind=kind, ids=torch.arange(ROWS) + 100)
    index.save(tmp_path / "images.index")
    for mmap in (True, False):
        loaded = HammingIndex.load(tmp_path / "images.index", mmap=mmap)
        assert_equal(*(each.search(sign(values), 9, rescore=values) for each in (index, loaded)))


def test_queries_in_parts_find_the_same(codes, values, monkeypatch):
    index = HammingIndex.build(codes)
    whole = index.search(sign(values), 5, rescore=values)
    monkeypatch.setattr(module, "_CANDIDATE_BYTES", 1)
    assert_equal(whole, index.search(sign(values), 5, rescore=values))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 20}, "got 20 without rescore"),
        ({"rescore": torch.ones(12, 9)}, "rescore must have one value for each of 36 bits, got 9"),
        ({"rescore": torch.ones(11, BITS)}, "one row for each query, got 11 for 12 queries"),
        ({"rescore": torch.ones(12, BITS), "candidates": 4}, "candidates must be at least k, got 4 for k=5"),
        ({"rescore": torch.ones(12, BITS), "candidates": 0}, "candidates must be a positive integer"),
        ({"rescore": torch.full((12, BITS), torch.inf)}, "rescore must be finite"),
    ],
)
def test_mistakes_are_named(codes, values, options, message):
    with pytest.raises(InputError, match=message):
        HammingIndex.build(codes).search(sign(values), 5, **options)
