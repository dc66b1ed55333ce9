"""Time of an evaluation, and of searches relative to the memory bandwidth of a plain copy."""

from __future__ import annotations

import torch

from benchmarks.gpu.part import Task
from benchmarks.gpu.record import Findings, median_seconds
from benchmarks.retrieval import classic_loop, clustered_codes, random_prototypes
from brcd_lightning.metrics import mean_average_precision
from brcd_lightning.search import HammingIndex, nearest_codes

BITS, K = 64, 1000
_BYTES_PER_CODE = 6 * BITS + 64
"""Working memory of a search on a GPU: codes as bytes and as floats, their validation, and sort keys."""
_COPIED = 1 << 30


def retrieval(found: Findings, task: Task) -> None:
    """Measures an evaluation of the paper's size, then searches among millions of codes."""
    _evaluation(found, task)
    bandwidth = _bandwidth(task.device)
    found.values.append(("plain copy", bandwidth / 1e9, "GB/s, read and written"))
    for millions in task.size.millions:
        _search(found, task.device, millions, bandwidth)


def _evaluation(found: Findings, task: Task) -> None:
    generator, device, size = torch.Generator().manual_seed(0), task.device, task.size
    prototypes = random_prototypes(10, BITS, generator)
    queries, q_labels = clustered_codes(size.queries, prototypes, 0.25, generator)
    database, d_labels = clustered_codes(size.database, prototypes, 0.25, generator)
    here = queries, database, q_labels, d_labels
    there = [part.to(device) for part in here]
    for ties in ("stable", "expected"):
        seconds = median_seconds(lambda ties=ties: mean_average_precision(*there, K, ties=ties), device, 3, warm_up=1)
        found.values.append((f"mAP@{K}, {ties}, {size.queries} x {size.database}", seconds, "s"))
    value = mean_average_precision(*there, K).item()
    few = slice(0, 500)  # the slow reference takes milliseconds for each query
    plain = [queries[few].float().numpy(), database.float().numpy(), q_labels[few].numpy(), d_labels.numpy()]
    some = mean_average_precision(there[0][few], there[1], there[2][few], there[3], K).item()
    found.values.append((f"mAP@{K}", value, ""))
    found.require(abs(some - classic_loop(*plain, K)) < 1e-9, f"mAP@{K} {some} differs from a loop's")


def _bandwidth(device: torch.device) -> float:
    """Bytes per second read and written by a plain copy."""
    source = torch.zeros(_COPIED // (1 if device.type == "cuda" else 8), dtype=torch.uint8, device=device)
    copied = torch.empty_like(source)
    return 2 * len(source) / median_seconds(lambda: copied.copy_(source), device, 5)


def _search(found: Findings, device: torch.device, millions: int, bandwidth: float) -> None:
    rows, what = millions * 1_000_000, f"{millions}M codes"
    if device.type == "cuda":
        free, needed = torch.cuda.mem_get_info(device)[0], rows * _BYTES_PER_CODE
        if free < needed:
            found.skipped[what] = f"needs {needed / 1e9:.0f} GB of GPU memory, {free / 1e9:.0f} GB are free"
            return
    torch.manual_seed(millions)
    codes = torch.randint(0, 2, (rows, BITS), dtype=torch.int8, device=device).mul_(2).sub_(1)
    queries = codes[torch.randint(rows, (64,), device=device)]
    queries[:, :4] *= -1
    index = HammingIndex.build(codes, kind="sharded") if millions <= 10 else None
    for batch in (1, 64 if millions <= 10 else 8):
        asked = queries[:batch]
        search = _on_gpu(asked, codes) if device.type == "cuda" else lambda asked=asked: index.search(asked, 100)
        seconds = median_seconds(search, device, 5, warm_up=1)
        found.values.append((f"{what}, {batch} at once", 1e3 * seconds / batch, "ms/query"))
        if batch == 1:
            share = len(codes) * BITS / 8 / bandwidth / seconds
            found.values.append((f"{what}: one read of them packed / a query", share, "of the bandwidth"))
    if index is not None:
        expected = index.search(queries[:4], 100)
        distances, positions = nearest_codes(queries[:4], codes, 100)
        same = torch.equal(distances.cpu().long(), expected.distances.long())
        found.require(same and torch.equal(positions.cpu(), expected.ids), f"{what}: not what the CPU finds")


def _on_gpu(queries: torch.Tensor, codes: torch.Tensor):
    return lambda: nearest_codes(queries, codes, 100)
