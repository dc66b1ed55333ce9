import pytest
import torch
from hypothesis import given, settings, strategies as st

from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.errors import InputError
from brcd_lightning.search import BuildOptions, HammingIndex
from brcd_lightning.search.kinds import EXACT_KINDS, KINDS
from conftest import clustered_codes, random_codes

MUTABLE = (*EXACT_KINDS, "ivf")


@pytest.fixture(scope="module")
def codes():
    return clustered_codes(3000, 64, torch.Generator().manual_seed(1))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 60), st.integers(1, 9), st.integers(1, 70), st.sampled_from(EXACT_KINDS))
def test_exact_kinds_equal_brute_force(bits, rows, queries, k, kind):
    generator = torch.Generator().manual_seed(bits * rows)
    database, query = random_codes(rows, bits, generator), random_codes(queries, bits, generator)
    index = HammingIndex.build(database, kind=kind)
    found = index.search(query, k)
    expected = hamming_distance(query, database).sort(dim=1, stable=True)
    assert torch.equal(found.distances.long(), expected.values[:, :k])
    assert torch.equal(found.ids, expected.indices[:, :k])
    assert index.exact
    assert index.recall == 1
    assert found.empty_slots == 0


@pytest.mark.parametrize("kind", KINDS)
def test_packed_codes_build_and_find_the_same(codes, kind):
    plain, packed = (HammingIndex.build(rows, kind=kind, bits=64) for rows in (codes, pack(codes)))
    for one, other in zip(plain.search(codes[:20], 10), packed.search(pack(codes[:20]), 10), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", EXACT_KINDS)
def test_an_index_does_not_change_with_the_tensor_it_was_built_from(kind):
    packed = torch.zeros(3, 1, dtype=torch.uint8)
    index = HammingIndex.build(packed, kind=kind)
    packed[:] = 255
    assert index.search(torch.zeros(1, 1, dtype=torch.uint8), 1).distances.item() == 0


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "multi_hash"])
def test_approximate_kinds_say_what_they_find(codes, kind):
    index = HammingIndex.build(codes, kind=kind, build_options=BuildOptions(recall_k=20))
    assert not index.exact
    assert 0.8 < index.recall <= 1
    assert f"recall {index.recall:.4f}" in repr(index)
    truth = HammingIndex.build(codes, kind="flat").search(codes[:200], 20)
    found = index.search(codes[:200], 20)
    measured = ((found.ids >= 0) & (found.distances <= truth.distances[:, -1:])).float().mean().item()
    assert measured == pytest.approx(index.recall, abs=0.1)


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "multi_hash"])
def test_a_measured_recall_is_forgotten_when_codes_change(tmp_path, codes, kind):
    index = HammingIndex.build(codes, kind=kind, build_options=BuildOptions(recall_k=20))
    index.add(-codes[:10])
    assert index.recall is None
    assert "recall unknown since codes changed" in repr(index)
    index.save(tmp_path / "a.index")
    assert HammingIndex.load(tmp_path / "a.index").recall is None
    exact = HammingIndex.build(codes)
    exact.add(-codes[:10])
    exact.remove(torch.tensor([0]))
    assert (exact.recall, exact.exact) == (1, True)


def test_removing_codes_forgets_the_recall_too(codes):
    index = HammingIndex.build(codes, kind="ivf", build_options=BuildOptions(recall_k=20))
    index.remove(torch.tensor([0]))
    assert index.recall is None


def test_empty_slots_are_reported(codes):
    found = HammingIndex.build(codes, kind="multi_hash", flips=0).search(-codes[:5], 500)
    assert found.empty_slots > 0
    assert (found.distances[found.ids < 0] == 65).all()
    assert found.empty_slots == int((found.distances == 65).sum())


@pytest.mark.parametrize("kind", MUTABLE)
def test_own_ids_survive_add_and_remove(codes, kind):
    ids = torch.arange(3000) * 7
    index = HammingIndex.build(codes, ids=ids, kind=kind)
    index.add(-codes[:10], torch.arange(10) + 50_000)
    index.remove(torch.tensor([0, 50_001, 14]))
    assert len(index) == 3007
    index.add(codes[:1], torch.tensor([0]))
    index.add(-codes[1:2])
    found = index.search(codes[:3], 1).ids[:, 0].tolist()
    assert found == [0, 7, index.search(codes[2:3], 1).ids.item()]
    assert index.search(-codes[1:2], 1).ids.item() == 50_010  # behind the largest id so far
    everything = index.search(codes[:1], 5000).ids
    if kind != "ivf":
        gone = {14, 50_001}
        assert set(everything[0].tolist()) == (set(ids.tolist()) | set(range(50_000, 50_011))) - gone


@pytest.mark.parametrize("kind", EXACT_KINDS)
def test_many_small_additions_equal_one_build(codes, kind):
    index = HammingIndex.build(codes[:1], kind=kind)
    for start in range(1, 300, 13):
        index.add(codes[start : min(300, start + 13)])
    whole = HammingIndex.build(codes[:300], kind=kind)
    assert torch.equal(index.search(codes[:9], 300).ids, whole.search(codes[:9], 300).ids)


@pytest.mark.parametrize("kind", ["flat", "ivf", "multi_hash"])
def test_radius_search(codes, kind):
    index = HammingIndex.build(codes, ids=torch.arange(3000) + 10, kind=kind)
    hits = index.search_radius(codes[:4], 6)
    distances = hamming_distance(codes[:4], codes)
    for q in range(4):
        rows = slice(*hits.offsets[q : q + 2].tolist())
        within = hits.ids[rows] - 10
        assert (distances[q, within] == hits.distances[rows]).all()
        assert (hits.distances[rows] <= 6).all()
        if index.exact:
            assert len(within) == int((distances[q] <= 6).sum())


@pytest.mark.parametrize("kind", ["hnsw", "multi_hash"])
def test_what_a_kind_cannot_do_is_said(codes, kind):
    index = HammingIndex.build(codes[:200], kind=kind)
    with pytest.raises(InputError, match=f"{kind} index cannot remove"):
        index.remove(torch.tensor([3]))
    if kind == "hnsw":
        with pytest.raises(InputError, match="no radius search"):
            index.search_radius(codes[:1], 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, c: i.search(c[:, :32], 3), "queries must have 64 bits, got 32"),
        (lambda i, c: i.search(pack(c[:, :32]), 3), "packed queries of 64 bits must have 8 bytes, got 4"),
        (lambda i, c: i.search(c.float() / 2, 3), "binarise"),
        (lambda i, c: i.search(c, 0), "k must be a positive integer"),
        (lambda i, c: i.search_radius(c, -1), "radius must be an integer"),
        (lambda i, c: i.add(c[:2], torch.tensor([3, 9000])), "ids must be new to the index, 1 are not: 3"),
        (lambda i, c: i.add(c[:2], torch.tensor([9, 9])), "distinct, got more than one of 9"),
        (lambda i, c: i.add(c[:2], torch.tensor([-1, 9])), "at least 0 and at most 2.62, got -1"),
        (lambda i, c: i.add(c[:2], torch.tensor([1.5, 9])), "ids must be 2 integers"),
        (lambda i, c: i.add(c[:2], torch.tensor([9000])), "ids must be 2 integers"),
        (lambda i, c: i.remove(torch.tensor([5000])), "ids must be in the index, 1 are not: 5000"),
        (lambda i, c: i.remove(torch.arange(3000)) or i.search(c, 1), "the index is empty"),
    ],
)
def test_mistakes_are_named(codes, call, message):
    index = HammingIndex.build(codes, kind="flat")
    with pytest.raises(InputError, match=message):
        call(index, codes)


def test_padding_bits_must_be_zero():
    with pytest.raises(InputError, match="0 beyond their 12 bits"):
        HammingIndex.build(torch.full((3, 2), 255, dtype=torch.uint8), bits=12)


@pytest.mark.parametrize("rows", [torch.ones(0, 8), torch.zeros(0, 1, dtype=torch.uint8)])
def test_an_index_of_nothing_is_refused(rows):
    with pytest.raises(InputError, match="at least one code"):
        HammingIndex.build(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_codes_added_without_ids_follow_the_largest(codes, kind):
    index = HammingIndex.build(codes, ids=torch.arange(3000), kind=kind)
    extra = random_codes(8, 64, torch.Generator().manual_seed(5))
    index.add(extra[:4])
    index.add(extra[4:], ids=torch.arange(9000, 9004))
    assert index.search(extra, 1).ids[:, 0].tolist() == [3000, 3001, 3002, 3003, 9000, 9001, 9002, 9003]


@pytest.mark.parametrize("kind", MUTABLE)
def test_an_emptied_index_takes_new_codes(codes, kind):
    index = HammingIndex.build(codes[:50], kind=kind, **({"lists": 2} if kind == "ivf" else {}))
    index.remove(torch.arange(50))
    assert len(index) == 0
    index.add(codes[50:53])
    assert index.search(codes[51:52], 1).distances.item() == 0
    index.remove(torch.tensor([index.search(codes[51:52], 1).ids.item()]))
    assert len(index) == 2


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ("x", "queries must be a tensor, got str"),
        (torch.ones(2, 64, dtype=torch.bool), "queries must hold -1 and .1, or be packed"),
        (torch.ones(2, 64, dtype=torch.complex64), "queries must hold"),
    ],
)
def test_what_is_no_code_is_refused(codes, queries, message):
    with pytest.raises(InputError, match=message):
        HammingIndex.build(codes[:9], kind="flat").search(queries, 1)


def test_half_precision_codes_are_codes(codes):
    index = HammingIndex.build(codes[:9].to(torch.bfloat16), kind="flat")
    assert index.search(codes[:9].half(), 1).ids[:, 0].tolist() == list(range(9))


def test_a_radius_beyond_all_bits_finds_everything(codes):
    assert len(HammingIndex.build(codes[:9], kind="flat").search_radius(codes[:1], 2**40).ids) == 9


def test_a_fingerprint_is_text(generator):
    with pytest.raises(InputError, match="fingerprint must be text, got 7"):
        HammingIndex.build(random_codes(5, 8, generator), fingerprint=7)
