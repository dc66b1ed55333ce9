"""Reads latency files and tabulates them: Table 3 of the paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from brcd_lightning.errors import InputError
from brcd_lightning.report.table import Number, Table, Value
from brcd_lightning.storage.json_files import read_json

SCHEMA_VERSION, KIND = 1, "latency"
_ENTRY: Mapping[str, Mapping[str, Any]] = {
    "encode": {"backbone": str, "batch": int, "parameters": int | float, "gmacs": int | float},
    "search": {"n": int, "k": int, "batch": int},
}
_TIMES = ("ms", "ms_p10", "ms_p90")
_HEAD = {"device": str, "processor": str, "threads": dict, "options": dict}


def find_latencies(folders: Iterable[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads the latency files below some folders; returns the records and the errors of damaged files."""
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
        InputError: if it is damaged or from another program.
    """
    record = read_json(path)
    head = (record.get("kind"), record.get("schema_version")) if isinstance(record, dict) else ()
    if not isinstance(record, dict) or head != (KIND, SCHEMA_VERSION) or not _is_sound(record):
        raise InputError(f"{path} is not a latency file of schema {SCHEMA_VERSION}.")
    return record


def _is_sound(record: Mapping[str, Any]) -> bool:
    """True if all values that tables and figures read are present and have the right type."""
    if not all(isinstance(record.get(key), kind) for key, kind in _HEAD.items()):
        return False
    for part, fields in _ENTRY.items():
        if not isinstance(record.get(part), list):
            return False
        for row in record[part]:
            if not isinstance(row, dict) or not all(isinstance(row.get(key), kind) for key, kind in fields.items()):
                return False
            if not all(isinstance(row.get(key), int | float) and 0 < row[key] < float("inf") for key in _TIMES):
                return False
    return True


def latency_table(record: Mapping[str, Any], name: str = "table3") -> Table:
    """Tabulates milliseconds for each batch size: networks first, then searches."""
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
    threads = ", ".join(f"{key} {count}" for key, count in record["threads"].items())
    options = record["options"]
    note = (
        f"Median of {options.get('repeats')} calls or fewer after a warm-up, in ms. Encoding on {record['device']}, "
        f"searching on {record['processor']}; threads: {threads}; images of {options.get('image_size')} pixels; "
        f"commit {record.get('commit')}."
    )
    heads = ["", *(f"batch {batch}" for batch in batches), "parameters (M)", "GMACs"]
    return Table(name, "Latency of encoding and searching (ms)", heads, rows, note)


def _times(entries: Sequence[Mapping[str, Any]], batches: Sequence[int]) -> list[Value]:
    times = {row["batch"]: Number(row["ms"], digits=2) for row in entries}
    return [times.get(batch) for batch in batches]
