"""Time for building a store, for steps on stored features, and for one cell of the paper's grid."""

from __future__ import annotations

import copy
import importlib.util
import shutil
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from benchmarks.gpu.part import Task
from benchmarks.gpu.record import Findings, median_seconds
from benchmarks.training_cost import random_splits, read_random_features
from brcd_lightning.backbones import IMAGENET, Backbone, torchvision_backbone
from brcd_lightning.cli.libraries import configure_libraries
from brcd_lightning.config import build
from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.features.builder import TransformedSplits
from brcd_lightning.data.features.cache import Display, ViewStore
from brcd_lightning.data.features.datamodule import StoredDataModule, evaluation_rows
from brcd_lightning.data.features.inference import AUTOCAST, Inference
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import natural_images
from brcd_lightning.distillation.base import KDInput, KDMethod
from brcd_lightning.distillation.brcd import BRCD
from brcd_lightning.hashing.base import HashingModel, HashNetwork
from brcd_lightning.hashing.cibhash import CIBHash
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import ADAM, TrainingOptions
from brcd_lightning.training.losses import compiled_losses
from brcd_lightning.training.teacher_codes import TeacherCodesCallback
from test_configs import composed

BITS, BATCH, VIEWS, FORWARD = 64, 64, 16, 128
_WARM_UP = 10
TEACHER, STUDENT = 768, 1280
"""Features of ViT-B/16 and of EfficientNet-B0."""


def store(found: Findings, task: Task) -> None:
    """Builds a store of 32-pixel images with a random ViT-B/16 at 224, against its forward pass on resident images."""
    device, few = task.device, task.device.type == "cpu"
    precision = "32-true" if few else "bf16-mixed"
    backbone = torchvision_backbone("vit_b_16", weights=None).to(device).eval()
    images = torch.rand(2 if few else FORWARD, 3, 224, 224, device=device).contiguous(memory_format=torch.channels_last)
    mixed = AUTOCAST.get(precision)
    with torch.inference_mode(), torch.autocast(device.type, mixed or torch.bfloat16, enabled=mixed is not None):
        alone = len(images) / median_seconds(lambda: backbone(images), device, repeats=2 if few else 10, warm_up=1)
    splits = random_splits(task.size.stored)
    started = time.perf_counter()
    ViewStore(views=1, folder=str(task.folder)).open(
        {"teacher": backbone},
        {"teacher": "vit_b_16", "transform": 224},
        TransformedSplits(splits, natural_images(224, center_crop=False)),
        amounts={"views": 1},
        inference=Inference(device, precision),
        display=Display(print, progress=False),
    )
    built = (len(splits.used) + len(splits.train)) / (time.perf_counter() - started)
    found.values.append((f"ViT-B/16 alone, {precision}", alone, "images/s"))
    found.values.append(("store of it", built, "images/s"))
    found.values.append(("store / alone", built / alone, ""))


class Heads(nn.Module):
    """The loss of a step on features: the student's head and objective, and BRCD."""

    def __init__(self, model: HashingModel, method: KDMethod) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, features: Tensor, teacher: Tensor, teacher_view: Tensor, index: Tensor) -> Tensor:
        """Sum of all terms for the features (3M, d) of two views and of the anchors of M images."""
        *views, anchor = self.model(features, 3)
        kd = self.method(KDInput(self.model.kd_code(anchor), teacher, index, teacher_view))
        return torch.stack([*self.model.objective(views).values(), *kd.terms.values()]).sum()


def steps(found: Findings, task: Task) -> None:
    """Measures a BRCD step on stored features: eager, compiled, and as a CUDA graph."""
    device: torch.device = task.device
    first: dict[str, Tensor] = {}
    for name in _COMPILERS:
        compiled = name != "eager"
        reason = _no_compiler(device) if compiled else ""
        if reason:
            found.skipped[name] = reason
            continue
        torch._dynamo.reset()
        counters.clear()
        try:
            seconds, first[name] = _step(task, name)
        except Exception as error:  # from the compiler; the other modes are still measured
            found.failures.append(f"{name}: {type(error).__name__}: {error}"[:500])
            continue
        remarks = [f"{sum(counters['graph_break'].values())} graph breaks"] if compiled else []
        if counters["inductor"]["cudagraph_skips"]:
            remarks.append("not all of it a CUDA graph")
        found.values.append((name, 1e3 * seconds, ", ".join(["ms/step", *remarks])))
        gap = float((first[name] - first.get("eager", first[name])).abs().max())
        found.require(gap < 1e-3, f"{name}: the first losses differ from the eager ones by {gap}")


_COMPILERS: dict[str, Callable[[Heads, torch.device], Callable[..., Tensor]]] = {
    "eager": lambda heads, device: heads,
    "compiled": lambda heads, device: torch.compile(heads, dynamic=False),
    "CUDA graph": compiled_losses,  # as compile=step does on a GPU
}


def _no_compiler(device: torch.device) -> str:
    """Reason for which compilation is unavailable, or an empty string."""
    if device.type != "cuda":
        return "measured on a GPU alone"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return "" if any(map(shutil.which, ("cc", "gcc", "clang"))) else "there is no C compiler, which triton needs"


def _step(task: Task, way: str) -> tuple[float, Tensor]:
    """Seconds of a step, and the losses of the first ones."""
    device = task.device
    splits, teacher, student = _stored_networks(task.size.train)
    torch.manual_seed(0)
    train = evaluation_rows(splits, splits.train).to(device)
    codes = teacher.to(device).encode(train).float()
    method = BRCD(num_clusters=10, n_init=2).to(device)
    method.prepare(codes)
    heads = Heads(copy.deepcopy(student.hashing_model), method).to(device)
    loss_of = _COMPILERS[way](heads, device)
    optimizer = ADAM(heads.model.parameters(), lr=1e-3)
    taken = iter(torch.randint(task.size.train, (task.size.steps + _WARM_UP, BATCH)).to(device))
    losses = []

    def step() -> None:
        index = next(taken)
        torch.compiler.cudagraph_mark_step_begin()
        views = len(splits.used) + index + task.size.train * torch.arange(2, device=device)[:, None]
        features = student.backbone(torch.cat([*views, train[index]]))
        loss = loss_of(features, codes[index], codes[index.flip(0)], index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if len(losses) < _WARM_UP:
            losses.append(loss.item())  # later losses diverge: one flipped bit changes all that follow

    return median_seconds(step, device, task.size.steps, warm_up=_WARM_UP), torch.tensor(losses[:3])


@cache
def _stored_networks(train: int) -> tuple[Splits, HashNetwork, HashNetwork]:
    """Splits of CIFAR-10's shares, teacher and student on random features of ViT-B/16 and EfficientNet-B0."""
    source = random_splits(12 * train).source
    query, database = torch.arange(len(source)).tensor_split([2 * train])
    splits = Splits(source, train=database[:train], query=query, database=database, val_query=database[-train // 5 :])
    teacher, student = (
        HashNetwork(Backbone(nn.Identity(), width, IMAGENET, "full"), CIBHash(width, BITS, head=head))
        for width, head in ((TEACHER, "linear"), (STUDENT, "mlp"))
    )
    read_random_features([teacher, student], splits, VIEWS)
    return splits, teacher, student


def cell(found: Findings, task: Task) -> None:
    """Trains a BRCD student of the paper's grid: k-means, all epochs with their validations, and the test."""
    configure_libraries()
    cfg = composed(["+experiment=cifar_vitb_effb0", f"trainer={'gpu' if task.device.type == 'cuda' else 'cpu'}"])
    torch.manual_seed(0)
    splits, teacher, student = _stored_networks(task.size.train)
    read = HashingDataModule(splits, natural_images(224, center_crop=False), cfg.data.batch_size)
    data = StoredDataModule(read, {"views": VIEWS})
    options = TrainingOptions(cfg.student.learning_rate, cfg.map_k)
    module = DistillationModule(student, teacher, build(cfg.kd_method), options, {})
    trainer = build(
        cfg.trainer,
        max_epochs=task.size.epochs,
        max_time={"seconds": round(0.8 * task.budget_s)},
        check_val_every_n_epoch=min(cfg.student.check_val_every, task.size.epochs),
        callbacks=[TeacherCodesCallback(task.folder, {})],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=str(task.folder),
    )
    started = time.perf_counter()
    trainer.fit(module, datamodule=data)
    trained = time.perf_counter() - started
    tested = trainer.test(module, datamodule=data, verbose=False)[0]
    epochs = trainer.current_epoch
    found.values.append((f"{epochs} epochs of {task.size.train} images", trained, f"s, {trainer.precision}"))
    found.values.append(("a step, all included", 1e3 * trained / max(1, trainer.global_step), "ms"))
    found.values.append(("test", time.perf_counter() - started - trained, "s"))
    if epochs < task.size.epochs:
        whole = trained * task.size.epochs / max(1, epochs)
        found.skipped[f"{task.size.epochs} epochs"] = f"no time for all; they would take {whole:.0f} s"
    found.require(all(0 <= value <= 1 for value in tested.values()), f"scores of the test: {tested}")
