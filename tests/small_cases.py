"""Every hashing model and every distillation method as a small training: a student, a frozen teacher, some batches."""

from functools import cache
from itertools import islice

import torch
import torch.distributed as dist

from brcd_lightning.config import CONFIG_DIR, build
from brcd_lightning.data.datamodule import ViewBatch
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.data.fake import fake
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import TrainingOptions
from conftest import make_datamodule
from offered import HASHING_MODELS, configuration, small
from small_training import centred

STEPS = 5
METHODS = sorted(path.stem for path in (CONFIG_DIR / "kd_method").glob("*.yaml"))  # ablations too
CASES = [("cibhash", method) for method in METHODS]
CASES += [(model, method) for model in HASHING_MODELS for method in ("brcd", "sp") if model != "cibhash"]


def make_module(model, method, splits):
    cfg = configuration("bits=16", f"hashing_model={model}", f"kd_method={method}")
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


@cache  # most cases see the same batches, and the views of a batch take longer than a step
def loaded(extras):
    """The batches of all steps, and the training images under the evaluation transform."""
    data = make_datamodule(fake(), extras=extras)
    batches = islice((batch for epoch in range(2) for batch in data.train_dataloader()), STEPS)
    return list(batches), torch.cat([batch.image for batch in data.eval_dataloader("train")])


def prepared_batches(module, splits):
    method = module.kd_method
    batches, images = loaded(Extras(method.rotation_views, method.num_positives))
    codes = module.teacher.encode(images)
    torch.manual_seed(1)
    if method.needs:
        method.prepare(codes.float(), splits.labels("train") if "training_labels" in method.needs else None)
        module.training_codes = codes
    return batches


def trained(case, splits, rank=0, world=1, device="cpu", mixed=None):
    """Losses, first gradients, and state after some steps of the rank's share of every batch.

    Args:
        case: hashing model and distillation method.
        splits: the data set.
        rank: of this process.
        world: number of processes.
        device: of the training.
        mixed: half precision of autocast (float16 with scaled losses); None for single precision.
    """
    module = make_module(*case, splits)
    batches = prepared_batches(module, splits)
    module = module.to(device)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    scaler = torch.amp.GradScaler(device, enabled=mixed is torch.float16)
    torch.manual_seed(2)
    losses, gradients = [], None
    for batch in batches:
        share = ViewBatch(*(None if value is None else value[rank::world].to(device) for value in batch))
        optimizer.zero_grad()
        with torch.autocast(device, mixed or torch.bfloat16, enabled=mixed is not None):
            loss = torch.stack(list(module.loss_terms(share).values())).sum()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        _average_gradients(module, world)
        if gradients is None:
            gradients = {name: p.grad.cpu().clone() for name, p in module.named_parameters() if p.grad is not None}
        losses.append(loss.item())
        scaler.step(optimizer)
        scaler.update()
    state = {name: value.cpu().clone() for name, value in module.state_dict().items() if not name.startswith("tables")}
    return {"losses": torch.tensor(losses, dtype=torch.float64), "gradients": gradients, "state": state}


def _average_gradients(module, world):
    """What data-parallel training does."""
    for parameter in module.parameters():
        if world > 1 and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world
