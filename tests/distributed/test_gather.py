"""Two processes with half a batch each against one process with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from brcd_lightning.config import CONFIG_DIR, build
from brcd_lightning.data.datamodule import ViewBatch
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.distributed.gather import gather
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions
from conftest import make_datamodule
from offered import HASHING_MODELS, small
from small_training import centred
from test_configs import composed

STEPS = 5
METHODS = sorted(path.stem for path in (CONFIG_DIR / "kd_method").glob("*.yaml"))  # ablations too
CASES = [("cibhash", method) for method in METHODS]
CASES += [(model, method) for model in HASHING_MODELS for method in ("brcd", "sp") if model != "cibhash"]


def make_module(model, method, splits):
    cfg = composed(["bits=16", f"hashing_model={model}", f"kd_method={method}"])
    torch.manual_seed(0)
    networks = []
    for role in ("teacher", "student"):
        backbone = build(cfg[role].backbone, widths=[4], grid=2)
        options = small(cfg.hashing_model)
        head = build(options, in_features=backbone.num_features, bits=16, head=cfg[role].head)
        head.setup(steps_per_epoch=4)
        networks.append(HashNetwork(backbone, head))
    kd_method = build(small(cfg.kd_method))
    kd_method.setup(len(splits.train), 16, 4)
    module = DistillationModule(networks[1], centred(networks[0]), kd_method, TrainingOptions(1e-2, 20), {})
    module.train()
    networks[1].backbone.network.eval()  # the statistics of batch norm are each process's own
    return module


def prepared_batches(module, splits):
    method = module.kd_method
    data = make_datamodule(splits, extras=Extras(method.rotation_views, method.num_positives))
    batches = [batch for epoch in range(2) for batch in data.train_dataloader()][:STEPS]
    codes = module.teacher.encode(torch.cat([batch.image for batch in data.eval_dataloader("train")]))
    torch.manual_seed(1)
    if method.needs:
        method.prepare(codes.float(), splits.labels("train") if "training_labels" in method.needs else None)
        module.training_codes = codes
    return batches


def trained(case, splits, rank=0, world=1):
    """Losses, first gradients, and state after some steps of the rank's share of every batch."""
    module = make_module(*case, splits)
    batches = prepared_batches(module, splits)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    torch.manual_seed(2)
    losses, gradients = [], None
    for batch in batches:
        share = ViewBatch(*(None if value is None else value[rank::world] for value in batch))
        optimizer.zero_grad()
        loss = torch.stack(list(module.loss_terms(share).values())).sum()
        loss.backward()
        for parameter in module.parameters():  # what data-parallel training does
            if world > 1 and parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= world
        if gradients is None:
            gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        losses.append(loss.item())
        optimizer.step()
    state = {name: value.clone() for name, value in module.state_dict().items() if not name.startswith("tables")}
    return {"losses": torch.tensor(losses, dtype=torch.float64), "gradients": gradients, "state": state}


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
