"""Encoders of a finished run: the student and its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brcd_lightning.deployment.encoding.description import EncoderDescription
from brcd_lightning.errors import InputError
from brcd_lightning.options import Role
from brcd_lightning.results.record import read_results
from brcd_lightning.results.run_files import RESULTS, STUDENT, TEACHER
from brcd_lightning.storage.checkpoints import read_architecture

_TOLD = ("row", "metrics", "intervals", "metric_protocol", "sizes", "transductive", "uses_labels", "commit", "versions")
"""Parts of ``results.json`` that an encoder keeps as its provenance."""


def is_run(folder: Path) -> bool:
    """True for the folder of a run that has a student."""
    return (folder / STUDENT).is_file()


def model_of_run(folder: Path, role: Role) -> tuple[EncoderDescription, Path]:
    """Returns the description of a run's model and the path of its weights.

    Args:
        folder: of the run.
        role: ``student`` or ``teacher``.

    Raises:
        InputError: if the run lacks its configuration, or the teacher cannot be found.
    """
    student = read_architecture(folder / STUDENT)
    about = student.get("about", {})
    config = about.get("config")
    if not isinstance(config, dict):
        raise InputError(
            f"{folder / STUDENT} was written by release 0.1.0 and lacks its configuration; train the student again, or "
            "test it once (stage=test student.checkpoint=FILE) and give the folder of that run."
        )
    path = folder / STUDENT if role == "student" else _teacher_file(folder, about["teacher"])
    found = student if role == "student" else read_architecture(path)
    own = config["teacher"].get("hashing_model") if role == "teacher" else None
    model = dict(own or config["hashing_model"]) | {"head": found["head"]}
    description = EncoderDescription(
        bits=found["bits"],
        role=role,
        backbone=found["backbone"],
        hashing_model=model,
        transform=config["transform"],
        teacher=about["teacher"],
        about=_provenance(folder, config, about),
    )
    return description, path


def _provenance(folder: Path, config: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance for the model card, without paths."""
    told: dict[str, Any] = {
        "dataset": {key: value for key, value in config["dataset"].items() if key != "root"},
        "kd_method": about["method"],
        "paradigm": config["paradigm"],
        "seed": about["seed"],
    }
    if (folder / RESULTS).is_file():
        results = read_results(folder)
        told |= {key: results[key] for key in _TOLD if key in results}
    return told


def _teacher_file(folder: Path, fingerprint: str) -> Path:
    """Path of the run's teacher in the teacher store of its output folder.

    Raises:
        InputError: if it has been moved or removed.
    """
    results = read_results(folder)["config"] if (folder / RESULTS).is_file() else {}
    given = results.get("teacher", {}).get("checkpoint")
    parents = (Path(), *folder.resolve().parents)  # output_dir was relative to the run's working directory
    outputs = [*(each / results.get("output_dir", "outputs") for each in parents), *parents]
    places = [each / "teachers" / fingerprint / TEACHER for each in outputs]
    for place in ([Path(given)] if given else []) + places:
        if place.is_file():
            return place
    raise InputError(
        f"the teacher {fingerprint} of {folder} is not in its output folder any more; bring it back to "
        f"{places[0]}, or use role=student."
    )
