"""Recorded latencies: reading them, and the paper's Table 3."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brcd_lightning.errors import InputError
from brcd_lightning.report.table import Number, Table, Value

SCHEMA_VERSION, KIND = 1, "latency"
_ENTRY = {"encode": ("backbone", "batch", "ms", "parameters", "gmacs"), "search": ("n", "k", "batch", "ms")}


def find_latencies(folders: Iterable[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of the command ``latency`` below some folders, and what is wrong with the others."""
    records, problems = [], []
    for path in dict.fromkeys(path.resolve() for folder in folders for path in sorted(folder.rglob("latency*.json"))):
        try:
            records.append(read_latency(path))
        except InputError as error:
            problems.append(str(error))
    return records, problems


def read_latency(path: Path) -> dict[str, Any]:
    """Reads one record.

    Raises:
        InputError: if it is damaged or of another program.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    known = isinstance(record, dict) and record.get("kind") == KIND and record.get("schema_version") == SCHEMA_VERSION
    if not known or not all(
        isinstance(record.get(part), list) and all(isinstance(row, dict) and keys <= row.keys() for row in record[part])
        for part, keys in ((part, set(keys)) for part, keys in _ENTRY.items())
    ):
        raise InputError(f"{path} is not a latency file of schema {SCHEMA_VERSION}.")
    return record


def latency_table(record: Mapping[str, Any], name: str = "table3") -> Table:
    """Milliseconds for each batch size: networks first, then searches."""
    batches = sorted({row["batch"] for part in ("encode", "search") for row in record[part]})
    rows: list[list[Value]] = []
    for backbone in dict.fromkeys(row["backbone"] for row in record["encode"]):
        entries = [row for row in record["encode"] if row["backbone"] == backbone]
        facts = entries[0]
        size: list[Value] = [Number(facts["parameters"] / 1e6, digits=2), Number(facts["gmacs"], digits=2)]
        rows.append([backbone, *_times(entries, batches), *size])
    for n, k in dict.fromkeys((row["n"], row["k"]) for row in record["search"]):
        entries = [row for row in record["search"] if (row["n"], row["k"]) == (n, k)]
        rows.append([f"search, n={n:,}, k={k:,}", *_times(entries, batches), None, None])
    threads = ", ".join(f"{key} {count}" for key, count in record.get("threads", {}).items())
    repeats = record.get("options", {}).get("repeats")
    note = f"Median of {repeats} calls or fewer after a warm-up, in ms. {record.get('device')}; threads: {threads}; "
    note += f"images of {record.get('options', {}).get('image_size')} pixels; commit {record.get('commit')}."
    heads = ["", *(f"batch {batch}" for batch in batches), "parameters (M)", "GMACs"]
    return Table(name, "Latency of encoding and searching (ms)", heads, rows, note)


def _times(entries: Sequence[Mapping[str, Any]], batches: Sequence[int]) -> list[Value]:
    times = {row["batch"]: Number(row["ms"], digits=2) for row in entries}
    return [times.get(batch) for batch in batches]
