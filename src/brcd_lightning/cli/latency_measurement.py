"""Latency measurements of encoding and searching for the command ``brcd latency``."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import faiss
import torch
from annotated_types import Interval, Len
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from brcd_lightning.config import CONFIG_DIR, build, check_parts, grid_coordinates, load_options
from brcd_lightning.errors import InputError, did_you_mean
from brcd_lightning.options import Positive, Seed, Text, checked
from brcd_lightning.report.latencies import KIND, SCHEMA_VERSION, latency_table
from brcd_lightning.report.render import markdown
from brcd_lightning.search import HammingIndex
from brcd_lightning.storage.atomic import source_commit, write_text

_WARM_UP, _FEWEST = 3, 2
_MOST = 100
"""Maximum length of a list option."""


@checked("latency")
@dataclass(frozen=True)
class Settings:
    """Options of a measurement.

    Args:
        backbones: options of the group backbone; None for those of teacher and student.
        device: ``auto``, ``cpu`` or ``cuda``, of the backbones; searching runs on the CPU.
        batch_sizes: numbers of images, and of queries, per call.
        database_sizes: numbers of codes to search.
        k: numbers of neighbours to find, in databases of at least that size.
        repeats: timed calls per measurement, at least 2.
        max_seconds: see `Timer`.
        seed: seed of the random images and codes.
        file: path of the record.

    Raises:
        InputError: for a wrong option.
    """

    backbones: Annotated[Sequence[Text], Len(1, _MOST)] | None
    device: Literal["auto", "cpu", "cuda"]
    batch_sizes: Annotated[Sequence[Annotated[int, Interval(ge=1, le=65536)]], Len(1, _MOST)]
    database_sizes: Annotated[Sequence[Annotated[int, Interval(ge=1, le=10**9)]], Len(1, _MOST)]
    k: Annotated[Sequence[Annotated[int, Interval(ge=1, le=10**6)]], Len(1, _MOST)]
    repeats: Annotated[int, Interval(ge=_FEWEST, le=10**6)]
    max_seconds: Positive
    seed: Seed
    file: Text

    def __post_init__(self) -> None:
        if min(self.k) > max(self.database_sizes):
            raise InputError(
                f"latency.k={self.k} asks for more than latency.database_sizes={self.database_sizes} hold."
            )
        if Path(self.file).is_dir():
            raise InputError(f"latency.file must be the path of a file, got {self.file!r}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("latency.device=cuda, but torch sees no GPU here; use cpu or auto.")


def measure(cfg: DictConfig) -> None:
    """Runs the configured measurements, prints the table and writes ``latency.file``.

    Raises:
        InputError: for a wrong option.
    """
    check_parts(cfg, "latency", "transform", "teacher", "student")
    settings: Settings = build(cfg.latency)
    device = torch.device("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu")
    backbones = _backbones(cfg, settings.backbones)
    torch.manual_seed(settings.seed)
    timer = Timer(settings.repeats, settings.max_seconds, device)
    searches = [(size, k) for size in settings.database_sizes for k in settings.k if k <= size]
    encoding: list[dict[str, Any]] = []
    searching: list[dict[str, Any]] = []
    for name in track(list(backbones), "Encoding", transient=True):
        encoding += encode_latency(name, backbones[name](), cfg.transform.size, settings.batch_sizes, timer)
    for size, k in track(searches, "Searching", transient=True):
        searching += search_latency(size, k, cfg.bits, settings.batch_sizes, timer, settings.seed)
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "processor": _processor(),
        "threads": {"torch": torch.get_num_threads(), "faiss": faiss.omp_get_max_threads()},
        "versions": {"torch": torch.__version__, "faiss": faiss.__version__},
        "commit": source_commit(),
        "options": asdict(settings) | {"image_size": cfg.transform.size, "bits": cfg.bits},
        "encode": encoding,
        "search": searching,
    }
    write_text(settings.file, json.dumps(record, indent=1) + "\n")
    console = Console(soft_wrap=True, highlight=False)
    console.print(markdown(latency_table(record)), markup=False)
    console.print(f"Results: {Path(settings.file).resolve()}")


class Timer:
    """Times calls after a warm-up.

    Args:
        repeats: timed calls.
        max_seconds: time after which no further call starts; at least two calls are timed.
        device: device to synchronise before the clock is read.
    """

    def __init__(self, repeats: int, max_seconds: float, device: torch.device) -> None:
        self.repeats, self.max_seconds, self.device = repeats, max_seconds, device

    def __call__(self, call: Callable[[], object]) -> dict[str, float]:
        """Median, 10th and 90th percentile of the time of a call in ms, and the number of timed calls."""
        for _ in range(_WARM_UP):
            self._time(call)
        times: list[float] = []
        while len(times) < self.repeats and (len(times) < _FEWEST or sum(times) < 1e3 * self.max_seconds):
            times.append(self._time(call))
        tenths = statistics.quantiles(times, n=10, method="inclusive")
        return {"ms": statistics.median(times), "ms_p10": tenths[0], "ms_p90": tenths[-1], "repeats": len(times)}

    def _time(self, call: Callable[[], object]) -> float:
        started = time.perf_counter()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * (time.perf_counter() - started)


def encode_latency(
    name: str, backbone: nn.Module, size: int, batch_sizes: Sequence[int], timer: Timer
) -> list[dict[str, Any]]:
    """Times a backbone on batches of random images of `size` pixels; one record for each batch size."""
    backbone = backbone.eval().to(timer.device)
    records = []
    with torch.inference_mode():
        counter = FlopCounterMode(display=False)
        with counter:
            backbone(torch.rand(1, 3, size, size, device=timer.device))
        facts = {
            "backbone": name,
            "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
            "gmacs": counter.get_total_flops() / 2e9,  # what papers call GFlops
        }
        for batch in batch_sizes:
            images = torch.rand(batch, 3, size, size, device=timer.device)
            records.append(facts | {"batch": batch} | timer(partial(backbone, images)))
    return records


def search_latency(
    size: int, k: int, bits: int, batch_sizes: Sequence[int], timer: Timer, seed: int
) -> list[dict[str, Any]]:
    """Times the exact search of batches of random queries in `size` random codes; one record for each batch size."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (size, -(-bits // 8)), dtype=torch.uint8, generator=generator)
    queries = torch.randint(0, 256, (max(batch_sizes), -(-bits // 8)), dtype=torch.uint8, generator=generator)
    index = HammingIndex.build(codes, kind="flat")
    on_cpu = Timer(timer.repeats, timer.max_seconds, torch.device("cpu"))
    return [
        {"n": size, "k": k, "bits": bits, "batch": batch} | on_cpu(partial(index.search, queries[:batch], k=k))
        for batch in batch_sizes
    ]


def _backbones(cfg: DictConfig, names: Sequence[str] | None) -> dict[str, Callable[[], nn.Module]]:
    """Builders of the networks with random weights, which take as long as trained ones."""
    if names is None:
        nodes = {grid_coordinates(cfg)[role]: cfg[role].backbone for role in ("teacher", "student")}
    else:
        known = sorted(path.stem for path in (CONFIG_DIR / "backbone").glob("*.yaml"))
        for name in names:
            if name not in known or name == "timm":
                hint = did_you_mean(str(name), known)
                raise InputError(
                    f"latency.backbones must hold options of the group backbone, got {name!r}.{hint} For another timm "
                    "network leave it null and give backbone@student.backbone=timm student.backbone.name=NAME."
                )
        whole = deepcopy(cfg)  # the options may refer to other sections
        OmegaConf.set_struct(whole, False)
        whole["measured"] = {name: load_options(CONFIG_DIR / "backbone" / f"{name}.yaml") for name in names}
        nodes = whole["measured"]
    return {name: partial(_untrained, node) for name, node in nodes.items()}


def _untrained(node: DictConfig) -> nn.Module:
    """Builds a network without its trained weights."""
    node = deepcopy(node)
    if "weights" in node:
        node["weights"] = None
    network: nn.Module = build(node)
    return network


def _processor() -> str:
    """The processor's name, as far as the system reports it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
