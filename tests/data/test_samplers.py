from brcd_lightning.data.samplers import EpochSampler, ShardSampler


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
