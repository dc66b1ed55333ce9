import numpy as np
import pytest

from brcd_lightning.search.approximate import OPTIONS, TARGET_RECALL, recall_meter, resolve_options, train, tune_probes
from brcd_lightning.search.exact import as_bytes
from conftest import clustered_codes


@pytest.fixture
def rows(generator):
    return as_bytes(clustered_codes(2000, 32, generator))


def filled(kind, rows, **options):
    index = train(kind, rows, 32, resolve_options(kind, options, 32, len(rows)), seed=0)
    index.add(rows, np.arange(len(rows)))
    return index


def test_reading_every_list_finds_everything(rows):
    assert recall_meter(rows, None, 10, seed=0)(filled("ivf", rows, lists=16, probes=16)) == (1, 1)


def test_tuned_probes_reach_the_target_and_fewer_would_not(rows):
    index, recall = filled("ivf", rows, lists=64), recall_meter(rows, None, 50, seed=0)
    probes = tune_probes(index, recall)
    assert recall(index).mean >= recall(index).at_least >= TARGET_RECALL
    assert 1 < probes < 64
    index.index.nprobe = probes // 2
    assert recall(index).at_least < TARGET_RECALL


@pytest.mark.parametrize("kind", OPTIONS)
def test_removed_or_not_positions_are_those_given(rows, kind):
    index = filled(kind, rows)
    assert len(index) == len(rows)
    _, positions = index.search(rows[:50], 1)
    assert (rows[positions[:, 0]] == rows[:50]).all()


def test_defaults_depend_on_size_and_bits():
    assert resolve_options("ivf", {}, 64, 50_000_000) == {"lists": 4096, "probes": None}
    assert resolve_options("multi_hash", {}, 64, 10)["tables"] == 4
    assert resolve_options("multi_hash", {}, 12, 10)["tables"] == 1
    assert resolve_options("flat", {}, 64, 10) == {}
