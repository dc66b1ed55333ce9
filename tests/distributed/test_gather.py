"""Two processes with half a batch each against one process with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from brcd_lightning.distributed.gather import gather
from small_cases import CASES, trained


def on_rank(rank, world, folder, splits):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save({case: trained(case, splits, rank, world) for case in CASES}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    from brcd_lightning.data.fake import fake

    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(on_rank, args=(2, folder, fake()), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_train_as_one(ranks, case, splits):
    alone = trained(case, splits)
    assert len(alone["gradients"]) > 2
    for rank in ranks:
        found = rank[case]
        assert torch.allclose(found["losses"][0], alone["losses"][0], rtol=1e-6)
        assert torch.allclose(found["losses"], alone["losses"], rtol=1e-5)
        for part in ("gradients", "state"):
            assert found[part].keys() == alone[part].keys()
            for name, value in alone[part].items():
                assert torch.allclose(found[part][name], value, atol=1e-6, rtol=1e-5), name


def test_one_process_gathers_nothing():
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather(rows) is rows
