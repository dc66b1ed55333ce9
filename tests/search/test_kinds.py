import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.search import BuildOptions, HammingIndex, kinds
from conftest import clustered_codes, random_codes


@pytest.fixture
def small_auto(monkeypatch):
    monkeypatch.setattr(kinds, "AUTO_SIZE", 2000)


def test_auto_scans_what_is_small(generator):
    assert HammingIndex.build(random_codes(500, 64, generator)).kind == "sharded"


@pytest.mark.usefixtures("small_auto")
def test_auto_partitions_large_clustered_codes(generator):
    index = HammingIndex.build(clustered_codes(8000, 64, generator), build_options=BuildOptions(recall_k=10))
    assert index.kind == "ivf"
    assert index.recall >= 0.99
    assert index.options["probes"] <= index.options["lists"] / 8


@pytest.mark.usefixtures("small_auto")
def test_auto_scans_codes_that_do_not_cluster(generator):
    index = HammingIndex.build(random_codes(4000, 64, generator))
    assert index.kind == "sharded"
    assert index.exact


@pytest.mark.usefixtures("small_auto")
def test_auto_scans_short_codes(generator):
    assert HammingIndex.build(clustered_codes(4000, 16, generator)).kind == "sharded"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "ivff"}, "kind must be one of .* Did you mean 'ivf'"),
        ({"kind": "auto", "probes": 3}, "auto takes no options"),
        ({"kind": "flat", "probes": 3}, "'probes' is not an option of a flat index; its options: none"),
        ({"kind": "hnsw", "probes": 3}, "options: links, build_effort, search_effort"),
        ({"kind": "ivf", "probes": 0}, "probes must be an integer of at least 1"),
        ({"kind": "ivf", "lists": 101}, "lists must be at most the number of codes, got 101 for 100"),
        ({"kind": "multi_hash", "tables": 17}, "tables must be at most the 16 bits"),
        ({"kind": "multi_hash", "flips": 17}, "flips must be at most the 16 bits of a substring"),
        ({"kind": "hnsw", "links": 1}, "links must be an integer of at least 2"),
        ({"kind": "hnsw", "search_effort": 2**40}, "search_effort must be an integer .* at most 2147483647"),
        ({"bits": 8}, "codes must have 8 bits, got 16"),
    ],
)
def test_wrong_options_are_refused(options, message, generator):
    with pytest.raises(InputError, match=message):
        HammingIndex.build(random_codes(100, 16, generator), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": torch.ones(0, 16)}, "queries must hold at least one code"),
        ({"recall_k": 0}, "recall_k must be a positive integer"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_wrong_build_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        BuildOptions(**options)


def test_the_same_seed_builds_the_same_index(generator):
    codes = clustered_codes(2000, 64, generator)
    one, other = (HammingIndex.build(codes, kind="ivf", build_options=BuildOptions(seed=3)) for _ in range(2))
    assert one.options == other.options
    assert one.recall == other.recall
    assert torch.equal(one.search(codes[:50], 20).ids, other.search(codes[:50], 20).ids)


def test_recall_is_measured_with_the_queries_that_are_given(generator):
    codes = clustered_codes(2000, 64, generator)
    like, unlike = (
        HammingIndex.build(
            codes, kind="ivf", build_options=BuildOptions(queries=queries, recall_k=20), lists=64, probes=4
        ).recall
        for queries in (codes[:100], random_codes(100, 64, generator))
    )
    assert unlike < like
    with pytest.raises(InputError, match="queries must have 64 bits"):
        HammingIndex.build(codes, kind="ivf", build_options=BuildOptions(queries=codes[:9, :8]))
