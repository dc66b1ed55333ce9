"""Time of our evaluation and index against common alternatives, in one run.

    python benchmarks/retrieval.py                  # evaluation, and the index at 1M and 10M codes
    python benchmarks/retrieval.py --sizes 1 10 50  # millions of codes; 50 needs about 6 GB of memory
    python benchmarks/retrieval.py --sizes          # evaluation only

Evaluation: 10,000 queries x 50,000 codes (ten noisy class prototypes), against the classic per-query loop. Memory is
the peak growth of the process.

Index: codes are 1,000 random prototypes with each bit flipped with probability 0.1; queries are drawn the same way
and are not in the database. Raw faiss is IndexBinaryFlat with counting, its faster mode. A plain copy of the codes
measures the machine's memory bandwidth. --plot draws the time of a single query against the number of codes.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt

from brcd_lightning.codes import pack
from brcd_lightning.metrics import mean_average_precision
from brcd_lightning.search import HammingIndex
from brcd_lightning.search.index import SearchResult

Call = Callable[[], object]


def classic_loop(
    queries: np.ndarray, database: np.ndarray, q_labels: np.ndarray, d_labels: np.ndarray, k: int
) -> float:
    """mAP@K as commonly implemented: per query a dot product, an argsort, and a cumulative sum."""
    total = 0.0
    for query, label in zip(queries, q_labels, strict=True):
        distance = 0.5 * (database.shape[1] - database @ query)
        order = np.argsort(distance, kind="stable")[:k]
        hits = d_labels[order] == label
        count = hits.sum()
        if count:
            total += (np.arange(1, count + 1) / (np.flatnonzero(hits) + 1)).mean()
    return total / len(queries)


def clustered_codes(
    rows: int, prototypes: torch.Tensor, flips: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of random prototypes with a share of the bits flipped, and the index of each prototype."""
    labels = torch.randint(0, len(prototypes), (rows,), generator=generator)
    flipped = torch.rand(rows, prototypes.shape[1], generator=generator) < flips
    return torch.where(flipped, -prototypes[labels], prototypes[labels]).to(torch.int8), labels


def random_prototypes(count: int, bits: int, generator: torch.Generator) -> torch.Tensor:
    """Random codes (count, bits) int8."""
    return torch.randint(0, 2, (count, bits), generator=generator, dtype=torch.int8) * 2 - 1


def timed(name: str, call: Callable[[], float]) -> float:
    """Prints and returns the seconds of one call, with its value and the growth of peak memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    value = float(call())
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{name:28} {seconds:8.2f} s   mAP {value:.6f}   peak memory +{grown:.0f} MiB", flush=True)
    return seconds


def evaluation(queries: int, database: int, bits: int, k: int) -> None:
    """Compares our evaluation with the classic loop."""
    generator = torch.Generator().manual_seed(0)
    prototypes = random_prototypes(10, bits, generator)
    q_codes, q_labels = clustered_codes(queries, prototypes, 0.25, generator)
    d_codes, d_labels = clustered_codes(database, prototypes, 0.25, generator)
    arguments = (q_codes, d_codes, q_labels, d_labels, k)
    print(f"{queries} queries x {database} codes x {bits} bits, K={k}, {torch.get_num_threads()} threads")
    stable = timed("ours, stable", lambda: mean_average_precision(*arguments))
    expected = timed("ours, expected over ties", lambda: mean_average_precision(*arguments, ties="expected"))
    plain = [part.float().numpy() for part in (q_codes, d_codes)] + [q_labels.numpy(), d_labels.numpy()]
    loop = timed("classic loop", lambda: classic_loop(*plain, k))
    print(f"classic loop / stable: {loop / stable:.1f}x   expected / stable: {expected / stable:.2f}x\n")


def interleaved(calls: dict[str, Call], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, in interleaved rounds so that a slow moment of the machine affects all of them."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], one: str, other: str) -> float:
    """Ratio of the times of two calls, median over the rounds."""
    return statistics.median(a / b for a, b in zip(seconds[one], seconds[other], strict=True))


def database_of(millions: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed codes, and 512 packed queries."""
    generator = torch.Generator().manual_seed(millions)
    prototypes = random_prototypes(1000, bits, generator)
    parts = [pack(clustered_codes(1_000_000, prototypes, 0.1, generator)[0]) for _ in range(millions)]
    return torch.cat(parts), pack(clustered_codes(512, prototypes, 0.1, generator)[0])


def recall(found: SearchResult, truth: SearchResult) -> float:
    """Share of results no farther than the true k-th neighbour."""
    return float(((found.ids >= 0) & (found.distances <= truth.distances[:, -1:])).float().mean())


def index(millions: int, bits: int, batches: list[int]) -> dict[str, float]:
    """Compares our kinds of index with raw faiss; returns the milliseconds of a single query with k=100."""
    codes, queries = database_of(millions, bits)
    rows, asked = codes.numpy(), queries.numpy()
    raw = faiss.IndexBinaryFlat(bits)
    raw.use_heap = False
    raw.add(rows)
    flat, sharded = (HammingIndex.build(codes, kind=kind) for kind in ("flat", "sharded"))
    started = time.perf_counter()
    auto = HammingIndex.build(codes)
    built = time.perf_counter() - started
    copied = np.empty_like(rows)
    copy = min(interleaved({"copy": lambda: np.copyto(copied, rows)}, 5)["copy"])
    print(f"{millions}M codes x {bits} bits; auto is {auto!r}, options {auto.options}, built in {built:.0f} s")
    for k in (100, 1000):
        found = recall(auto.search(queries, k), sharded.search(queries, k))
        print(
            f"  k={k}: recall of auto on 512 queries outside the database {found:.4f}; a plain copy {copy * 1e3:.1f} ms"
        )
        print("        ms/query:                                         | flat   flat    bytes scanned")
        print("  batch   raw faiss        flat     sharded        auto   | /raw   /auto   /copied")
        for batch in batches:
            some, some_rows = queries[:batch], asked[:batch]
            calls: dict[str, Call] = {
                "raw": lambda q=some_rows, k=k: raw.search(q, k),
                "flat": lambda q=some, k=k: flat.search(q, k),
                "sharded": lambda q=some, k=k: sharded.search(q, k),
                "auto": lambda q=some, k=k: auto.search(q, k),
            }
            repeats = max(3, min(25, 1500 // (batch * millions)))
            seconds = interleaved({name: calls[name] for name in ("raw", "flat")}, repeats)
            for name in ("sharded", "auto"):  # alone: idle OpenMP threads of the others would still spin
                seconds |= interleaved({name: calls[name]}, repeats)
            each = {name: statistics.median(values) / batch * 1e3 for name, values in seconds.items()}
            times = "".join(f"{each[name]:12.3f}" for name in calls)
            print(
                f"  {batch:5}{times}   | {ratio(seconds, 'flat', 'raw'):.3f}x {each['flat'] / each['auto']:6.1f}x "
                f"{copy * 1e3 / each['sharded']:6.2f}x",
                flush=True,
            )
            if batch == 1 and k == 100:
                single = each
    print()
    return single


def draw(path: Path, bits: int, curves: dict[int, dict[str, float]]) -> None:
    """Time of a single query against the number of codes."""
    mpl.use("Agg")
    names = {"raw": ("raw faiss", "k", "x", ":"), "flat": ("flat", "C0", "o", "-")}
    names |= {"sharded": ("sharded", "C1", "s", "-"), "auto": ("auto", "C2", "^", "--")}
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, (label, colour, marker, line) in names.items():
        axes.loglog(
            [millions * 1e6 for millions in curves],
            [times[name] for times in curves.values()],
            label=label,
            color=colour,
            marker=marker,
            linestyle=line,
        )
    axes.set(
        title=f"One query, k=100, {bits} bits, {faiss.omp_get_max_threads()} threads",
        xlabel="codes in the index",
        ylabel="time per query (ms)",
    )
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"Drawn in {path}")


def main() -> None:
    """Runs the comparisons and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("queries", 10_000), ("database", 50_000), ("bits", 64), ("k", 1000)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 10], help="millions of codes in the index")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    options = parser.parse_args()
    evaluation(options.queries, options.database, options.bits, options.k)
    curves = {}
    for millions in options.sizes:
        curves[millions] = index(millions, options.bits, options.batches)
        gc.collect()
    if options.plot and curves:
        draw(options.plot, options.bits, curves)


if __name__ == "__main__":
    main()
