import torch

from brcd_lightning.data.sampling import EpochSampler, ShardSampler, random_stream, stream_seed


def test_each_epoch_is_another_permutation():
    sampler = EpochSampler(10, seed=3)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(position for _, position in second) == list(range(10))
    assert [position for _, position in second] != [position for _, position in first]
    assert {epoch for epoch, _ in second} == {1}


def test_ranks_share_an_epoch_without_overlap():
    shares = [list(EpochSampler(11, 0, rank, 2)) for rank in range(2)]
    assert [len(share) for share in shares] == [5, 5]
    assert not set(shares[0]) & set(shares[1])


def test_shards_hold_every_position_once():
    shards = [list(ShardSampler(7, rank, 3)) for rank in range(3)]
    assert sorted(position for shard in shards for position in shard) == list(range(7))


def test_random_stream_restores_the_global_stream():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with random_stream(1, 2):
        torch.rand(9)
    assert torch.equal(torch.rand(2), expected)


def test_stream_seeds_differ():
    seeds = {stream_seed(0, epoch, index, view) for epoch in range(3) for index in range(50) for view in range(2)}
    assert len(seeds) == 300
