"""Results of a check: one JSON file, replaced atomically after each part, and a Markdown table next to it."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from brcd_lightning.storage.atomic import source_commit, write_text

ROOT = Path(__file__).parents[2]
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


@dataclass
class Findings:
    """Measurements of a part.

    Attributes:
        values: name, number, and its unit or a remark.
        skipped: measurements that could not be made, with the reason.
        failures: messages of failed checks.
    """

    values: list[tuple[str, float, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def require(self, holds: bool, message: str) -> None:
        """Records a failure unless it holds."""
        if not holds:
            self.failures.append(message)


@dataclass
class Outcome:
    """Outcome of a part."""

    status: str
    seconds: float
    findings: Findings
    reason: str = ""
    """Reason for which the part was skipped or failed."""


class Record:
    """The outcomes of a check by name of the part, stored in a file.

    Args:
        path: of the JSON file; the table is written next to it.
        machine: identifies device, versions and source. Outcomes of any other are dropped.
        fresh: also drop outcomes of the same machine.
    """

    def __init__(self, path: Path, machine: dict[str, object], fresh: bool) -> None:
        self.path, self.machine = path, machine
        self.outcomes: dict[str, Outcome] = {}
        kept = json.loads(path.read_text()) if path.exists() and not fresh else {}
        if kept.get("machine") == machine:
            self.outcomes = {
                name: Outcome(**{**each, "findings": Findings(**each["findings"])})
                for name, each in kept["parts"].items()
            }

    def done(self, name: str) -> bool:
        """True if a part need not run again. Failed parts must."""
        return name in self.outcomes and self.outcomes[name].status != FAILED

    def add(self, name: str, outcome: Outcome) -> None:
        """Stores an outcome, replacing an earlier one."""
        self.outcomes[name] = outcome
        parts = {name: asdict(each) for name, each in self.outcomes.items()}
        text = json.dumps({"machine": self.machine, "parts": parts}, indent=2) + "\n"
        write_text(self.path, text)
        write_text(self.path.with_suffix(".md"), self.table())

    def table(self) -> str:
        """Formats all outcomes as Markdown."""
        machine = dict(self.machine)
        lines = [f"# {machine.pop('device')}", "", ", ".join(f"{key} {value}" for key, value in machine.items()), ""]
        lines += ["| part | what | value |", "|---|---|---|"]
        for name, outcome in self.outcomes.items():
            said = f"{outcome.status} ({outcome.seconds:.0f} s)" if outcome.status != SKIPPED else SKIPPED
            lines.append(f"| **{name}** | | {_cell(': '.join(filter(None, [said, outcome.reason])))} |")
            found = outcome.findings
            lines += [f"| | {_cell(what)} | {value:.4g} {_cell(unit)} |" for what, value, unit in found.values]
            lines += [f"| | {_cell(what)} | skipped: {_cell(reason)} |" for what, reason in found.skipped.items()]
            lines += [f"| | FAILED | {_cell(message)} |" for message in found.failures]
        return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def about_machine(size: str) -> dict[str, object]:
    """Device, versions and source, for which an outcome is valid."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else f"no GPU ({platform.processor() or platform.machine()})",
        "memory": f"{torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB" if cuda else "none",
        "torch": torch.__version__,
        "CUDA": torch.version.cuda or "none",
        "python": platform.python_version(),
        "commit": source_commit() or "none",
        "source": _digest_of_source(),  # a commit does not identify a source with local changes
        "size": size,
    }


def _digest_of_source() -> str:
    digest = hashlib.sha256()
    for folder in ("benchmarks", "conf", "src", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def median_seconds(call: object, device: torch.device, repeats: int, warm_up: int = 2) -> float:
    """Median seconds of one call on a device, after warm-up calls."""
    times = []
    for number in range(warm_up + repeats):
        started = time.perf_counter()
        call()  # type: ignore[operator]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= warm_up:
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
