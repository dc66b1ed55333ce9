"""Two processes with half a batch each against one process with the whole batch."""

import pytest
import torch

from brcd_lightning.distributed.gather import gather
from conftest import StartedCommand
from small_cases import CASES, trained


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    processes = [StartedCommand(rank, 2, folder, cwd=folder, module="one_rank") for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0], [process.stderr for process in processes]
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
