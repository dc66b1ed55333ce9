import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.metrics.ties import expected_average_precision


def test_a_cut_inside_a_group_by_hand():
    """Distances 2,2,2,2,5,5,5,5, relevance 1,1,0,0,0,1,0,1, K = 6: 8393/12960."""
    items, relevant = torch.tensor([[4, 4]]), torch.tensor([[2, 2]])
    assert expected_average_precision(items, relevant, 6).item() == pytest.approx(8393 / 12960, abs=1e-12)
    for normalizer in ("min", "all"):
        value = expected_average_precision(items, relevant, 6, normalizer)
        assert value.item() == pytest.approx(349 / 720, abs=1e-12)


def test_groups_beyond_the_cut_do_not_matter():
    items, relevant = torch.tensor([[3, 5, 9]]), torch.tensor([[1, 4, 2]])
    short = expected_average_precision(items[:, :2], relevant[:, :2], 6)
    assert torch.equal(expected_average_precision(items, relevant, 6), short)
    total = relevant.sum(dim=1)
    one = expected_average_precision(items[:, :2], relevant[:, :2], 6, "all", total)
    assert torch.equal(expected_average_precision(items, relevant, 6, "all"), one)


def test_large_groups_agree_with_shuffling(generator):
    items, relevant = torch.tensor([[50, 4000]]), torch.tensor([[20, 900]])
    value = expected_average_precision(items, relevant, 300).item()
    trials = 2000
    first = (torch.rand(trials, 50, generator=generator).argsort(dim=1) < 20).double()
    second = (torch.rand(trials, 4000, generator=generator).argsort(dim=1) < 900).double()
    hits = torch.cat([first, second], dim=1)[:, :300]
    shuffled = (hits.cumsum(dim=1) / torch.arange(1, 301) * hits).sum(dim=1) / hits.sum(dim=1)
    assert value == pytest.approx(shuffled.mean().item(), abs=4 * shuffled.std().item() / trials**0.5)


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="normalizer must be one of topk, min, all"):
        expected_average_precision(torch.ones(1, 1), torch.ones(1, 1), 1, "mean")
    with pytest.raises(InputError, match="k must be a positive integer, got 0"):
        expected_average_precision(torch.ones(1, 1), torch.ones(1, 1), 0)
