"""Time of our CIFAR-sized evaluation against the classic per-query loop, in one run.

    python benchmarks/retrieval.py [--queries 10000] [--database 50000] [--bits 64] [--k 1000]

The codes are ten noisy class prototypes. Memory is the growth of the process's peak over its size before.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from brcd_lightning.metrics import mean_average_precision


def classic_loop(
    queries: np.ndarray, database: np.ndarray, q_labels: np.ndarray, d_labels: np.ndarray, k: int
) -> float:
    """mAP@K as the field writes it: per query a dot product, an argsort, and a cumulative sum."""
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
    rows: int, prototypes: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of random classes with a quarter of the bits flipped, and the classes."""
    labels = torch.randint(0, len(prototypes), (rows,), generator=generator)
    flips = torch.rand(rows, prototypes.shape[1], generator=generator) < 0.25
    return torch.where(flips, -prototypes[labels], prototypes[labels]).to(torch.int8), labels


def timed(name: str, call: Callable[[], float]) -> float:
    """Prints and returns the seconds of one call, with its value and the growth of peak memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    value = float(call())
    seconds = time.perf_counter() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{name:28} {seconds:8.2f} s   mAP {value:.6f}   peak memory +{grown:.0f} MiB", flush=True)
    return seconds


def main() -> None:
    """Runs the comparison and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("queries", 10_000), ("database", 50_000), ("bits", 64), ("k", 1000)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.randint(0, 2, (10, options.bits), generator=generator, dtype=torch.int8) * 2 - 1
    queries, q_labels = clustered_codes(options.queries, prototypes, generator)
    database, d_labels = clustered_codes(options.database, prototypes, generator)
    arguments = (queries, database, q_labels, d_labels, options.k)
    print(
        f"{options.queries} queries x {options.database} codes x {options.bits} bits, K={options.k}, "
        f"{torch.get_num_threads()} threads"
    )
    stable = timed("ours, stable", lambda: mean_average_precision(*arguments))
    expected = timed("ours, expected over ties", lambda: mean_average_precision(*arguments, ties="expected"))
    plain = [part.float().numpy() for part in (queries, database)] + [q_labels.numpy(), d_labels.numpy()]
    loop = timed("classic loop", lambda: classic_loop(*plain, options.k))
    print(f"classic loop / stable: {loop / stable:.1f}x   expected / stable: {expected / stable:.2f}x")


if __name__ == "__main__":
    main()
