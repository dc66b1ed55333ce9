"""The protocol that scores were measured by, in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from brcd_lightning.report.runs import Run
from brcd_lightning.results.record import has_labels

_IMAGES = {"query": "queries", "database": "database images"}


def protocol_lines(runs: Iterable[Run]) -> list[str]:
    """A sentence for each protocol, with its data sets: K, images, relevant images, order of ties, and seeds."""
    seeds: dict[tuple[str, str], set[int]] = {}
    for run in runs:
        seeds.setdefault((run.row["dataset"], _protocol(run.results)), set()).add(run.row["seed"])
    names: dict[str, list[str]] = {}
    for (name, words), each in seeds.items():
        names.setdefault(f"{words}, {_listed(sorted(each))}", []).append(name)
    return [f"Protocol of {' and '.join(several)}: {words}." for words, several in names.items()]


def _protocol(results: Mapping[str, Any]) -> str:
    protocol, sizes = results["metric_protocol"], results["sizes"]
    parts = [f"mAP@{protocol['k']}"]
    parts += [f"{sizes[role]:,} {name}" for role, name in _IMAGES.items() if isinstance(sizes.get(role), int)]
    if has_labels(results):
        parts.append("relevant: images that share a label with the query")
    else:
        parts.append(f"no labels, relevant: {protocol['relevance']}")
    if isinstance(protocol.get("ties"), str):
        parts.append(f"ties: {protocol['ties'].partition(';')[0]}")
    return ", ".join(parts)


def _listed(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"
