import torch

from brcd_lightning.distributed.seeding import random_stream, stream_seed


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
