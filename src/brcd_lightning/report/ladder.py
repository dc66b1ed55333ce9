"""The ladder: real features, codes with and without training, closed forms and gradients on the same backbones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from brcd_lightning.metrics.declared import COLUMNS, FLOAT_COLUMNS, ReportedMetric
from brcd_lightning.report.comparisons import score
from brcd_lightning.report.protocol import protocol_lines
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import Cell
from brcd_lightning.report.table import Number, Table, Value
from brcd_lightning.results.record import mark_notes, marks
from brcd_lightning.results.summary_table import PARADIGMS
from brcd_lightning.search.features import FEATURE_SEARCHES

_FEATURES = {"features": "real features", "pq": "PQ of features", "opq": "OPQ of features"}
_ENCODERS = ("teacher", *PARADIGMS)
_FLOAT = FLOAT_COLUMNS[0]


@dataclass(frozen=True)
class Rung:
    """A row of the ladder: its cells by code length."""

    name: str
    cells: dict[int, Cell]

    @property
    def trained(self) -> bool:
        """True if a gradient made the student."""
        return any(cell.first.results["epochs"] > 0 for cell in self.cells.values())

    @property
    def transductive(self) -> bool:
        """True if the student saw more images than its teacher."""
        return any(cell.first.results["transductive"] for cell in self.cells.values())

    def value(self, bits: int, metric: str) -> Number | None:
        """Mean over seeds of a metric at a code length."""
        return score(self.cells[bits], metric) if bits in self.cells else None


@dataclass(frozen=True)
class Ladder:
    """The rungs of one data set and pair of backbones.

    Args:
        title: name of the data set and the backbones.
        codes: hashing models, as teachers and as undistilled students.
        students: distilled students.
        bits: code lengths.
    """

    title: str
    codes: Sequence[Rung]
    students: Sequence[Rung]
    bits: Sequence[int]


def find_ladders(records: Records) -> list[Ladder]:
    """A ladder for each data set and pair of backbones on which something was fitted without training."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in records.cells:
        groups.setdefault((cell.first.row["dataset"], cell.first.pair), []).append(cell)
    return [
        Ladder(
            f"{dataset}, {pair}",
            _rungs(records, [cell for cell in cells if not cell.first.distils], lambda name, model: model.upper()),
            _rungs(records, [cell for cell in cells if cell.first.distils], lambda name, model: f"{name}, {model}"),
            sorted({cell.first.row["bits"] for cell in cells}),
        )
        for (dataset, pair), cells in groups.items()
        if any(cell.first.results["epochs"] == 0 for cell in cells)
    ]


def _rungs(records: Records, cells: Sequence[Cell], named: Callable[[str, str], str]) -> list[Rung]:
    """Rungs by method and hashing models; of cells that differ in other options, the one with the best validation."""
    found: dict[str, dict[int, Cell]] = {}
    for model, bits in dict.fromkeys((cell.first.row["hashing_model"], cell.first.row["bits"]) for cell in cells):
        inside = [cell for cell in cells if (cell.first.row["hashing_model"], cell.first.row["bits"]) == (model, bits)]
        for label, cell in records.chosen(inside, PARADIGMS[0]).items():
            found.setdefault(f"{named(label, model)}{marks(cell.first.results)}", {})[bits] = cell
    rungs = [Rung(name, its) for name, its in found.items()]
    return sorted(rungs, key=lambda rung: (rung.trained, rung.transductive))


def ladder_tables(records: Records) -> list[Table]:
    """Tables of the Hamming scores of each ladder, and separate ones of float queries."""
    ladders = find_ladders(records)
    kinds = [("ladder", "", COLUMNS[0]), ("ladder_float", ", float queries (no Hamming scores)", _FLOAT)]
    tables = []
    for number, ladder in enumerate(ladders, 1):
        for name, words, metric in kinds:
            if _measured(ladder, metric):
                file = f"{name}_{number}" if len(ladders) > 1 else name
                tables.append(_table(ladder, file, f"Ladder{words}: {ladder.title}", metric))
    return tables


def _measured(ladder: Ladder, metric: ReportedMetric) -> bool:
    keys = [metric.key(encoder) for encoder in _ENCODERS]
    rungs = (*ladder.codes, *ladder.students)
    return any(rung.value(bits, key) for rung, bits, key in product(rungs, ladder.bits, keys))


def _table(ladder: Ladder, name: str, title: str, metric: ReportedMetric) -> Table:
    heads = {"teacher": "teacher", "sshp": "SSHP", "ashp": "ASHP"}
    columns = ["rung", *(f"{bits} bits {heads[each]}" for bits in ladder.bits for each in _ENCODERS), "seconds"]
    rows: list[list[Value]] = []
    for kind in FEATURE_SEARCHES:
        values = {role: [_feature(ladder, bits, role, kind) for bits in ladder.bits] for role in ("teacher", "student")}
        if any(values["teacher"]):
            pairs = zip(values["teacher"], values["student"], strict=True)
            rows.append([_FEATURES[kind], *(value for pair in pairs for value in (*pair, None)), None])
    teacher, sshp, ashp = (metric.key(each) for each in _ENCODERS)
    # Codes of an undistilled student are not a teacher's; the teacher of a distilled student has its own row.
    kinds: list[tuple[Sequence[Rung], list[str | None]]] = [
        (ladder.codes, [teacher, sshp, None]),
        (ladder.students, [None, sshp, ashp]),
    ]
    for rungs, keys in kinds:
        for rung in rungs:
            scores = [rung.value(bits, key) if key else None for bits in ladder.bits for key in keys]
            rows.append([rung.name, *scores, _seconds(rung)])
    k = next(iter((*ladder.codes, *ladder.students)[0].cells.values())).first.results["metric_protocol"]["k"]
    note = f"{metric.title_at(k)} on test queries; mean ± standard deviation over seeds. "
    note += "For codes, SSHP is an undistilled student; for features, the student's. Seconds: mean time of a student. "
    note += " ".join([*lessons(ladder, metric), *_notes(ladder)])
    return Table(name, title, columns, rows, note.strip())


def _notes(ladder: Ladder) -> list[str]:
    rungs = (*ladder.codes, *ladder.students)
    runs = [run for rung in rungs for cell in rung.cells.values() for run in cell.runs]
    return [*(f"{text}." for text in mark_notes(run.results for run in runs)), *protocol_lines(runs)]


def lessons(ladder: Ladder, metric: ReportedMetric = COLUMNS[0]) -> list[str]:
    """Sentences: the gain of training a teacher over fitting one, and of a gradient over a closed form.

    Each difference is between the best of both kinds at a code length, averaged over code lengths.
    """
    told = []
    gain = _gain(ladder, ladder.codes, metric.key("teacher"))
    if gain:
        told.append(f"Training the teacher adds {gain} over the best hashing model without training.")
    alike = [rung for rung in ladder.students if not rung.transductive]
    gains = {paradigm: _gain(ladder, alike, metric.key(paradigm)) for paradigm in PARADIGMS}
    if all(gains.values()):
        words = " and ".join(f"{text} in {paradigm.upper()}" for paradigm, text in gains.items())
        told.append(f"A gradient adds {words} over the best closed form.")
    return told


def _gain(ladder: Ladder, rungs: Sequence[Rung], metric: str) -> str:
    """Mean difference of the best trained and the best untrained rung; empty if one kind is missing."""
    gains = []
    for bits in ladder.bits:
        kinds = [
            [value.mean for rung in rungs if rung.trained == trained and (value := rung.value(bits, metric))]
            for trained in (True, False)
        ]
        if all(kinds):
            gains.append(max(kinds[0]) - max(kinds[1]))
    return f"{statistics.fmean(gains):+.4f}" if gains else ""


def _feature(ladder: Ladder, bits: int, role: str, kind: str) -> Number | None:
    """A score of real features, from any run that measured it."""
    found = (rung.value(bits, f"map_{role}_{kind}") for rung in (*ladder.codes, *ladder.students))
    return next((value for value in found if value), None)


def _seconds(rung: Rung) -> Number | None:
    seconds = [
        run.results["timings"]["student_seconds"]
        for cell in rung.cells.values()
        for run in cell.runs
        if "student_seconds" in run.results.get("timings", {})
    ]
    return Number(statistics.fmean(seconds), digits=1) if seconds else None
