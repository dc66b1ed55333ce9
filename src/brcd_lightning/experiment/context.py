"""The parts of one run: data, networks, distillation method, and paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from brcd_lightning.data.extra_views import Extras
from brcd_lightning.data.features.cache import ViewStore
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import ImageTransforms
from brcd_lightning.distillation.base import ClosedFormMethod, KDMethod
from brcd_lightning.experiment.fingerprint import architecture
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.results.identity import lasting_config
from brcd_lightning.results.run_files import TEACHER
from brcd_lightning.storage.component_names import named

_OF_A_TEST = ("map_k", "output_dir", "resume", "stage", "trial")


@dataclass(frozen=True)
class RunContext:
    """The parts of one run, built and checked by `build.build_context`."""

    cfg: DictConfig
    config: Mapping[str, Any]
    """`cfg` as plain Python values, with interpolations resolved."""
    run_dir: Path
    coordinates: Mapping[str, str]
    """Coordinates of the run in the grid, see `config.grid_coordinates`."""
    splits: Splits
    trained_on: Mapping[str, Splits]
    """Splits by stage: a student may train on more images than its teacher."""
    transforms: ImageTransforms
    kd_method: KDMethod
    warm_start: ClosedFormMethod | None
    """Solves for the student's initial head."""
    teacher: HashNetwork
    student: HashNetwork
    teacher_id: str
    """Fingerprint of the teacher's configuration, or of the teacher's file if one is given."""
    view_store: ViewStore
    given_teacher: str | None = None
    """Fingerprint of a given teacher that differs from the one the configuration would train."""
    student_config: Mapping[str, Any] | None = None
    """Configuration that a tested student was trained with, as stored in its file."""
    commit: str | None = None
    """Source commit when the run started; the checkout may change while it trains."""

    @property
    def networks(self) -> dict[str, HashNetwork]:
        """Teacher and student by role."""
        return {"teacher": self.teacher, "student": self.student}

    @property
    def teacher_path(self) -> Path:
        """The teacher's file: the given checkpoint, or its place in the store."""
        given = self.cfg.teacher.checkpoint
        return stored_teacher(self.cfg, self.teacher_id) if given is None else Path(given)

    @property
    def kept_config(self) -> dict[str, Any]:
        """The configuration that files and loggers keep: the one that produced the student, with components by name.

        A given teacher is represented by its fingerprint, because this configuration does not contain its options. A
        student that is only tested keeps its own configuration, with the protocol of this test.
        """
        own = named(self.config)
        kept = own if self.student_config is None else dict(self.student_config) | {key: own[key] for key in _OF_A_TEST}
        if self.student_config is None:
            kept["teacher"] = kept["teacher"] | {"checkpoint": self.given_teacher}
        return kept

    def architecture(self, role: str) -> dict[str, Any]:
        """Description that checkpoints of the ``teacher`` or ``student`` must match."""
        return architecture(self.config, role)

    def extras(self, stage: str) -> Extras:
        """Inputs in the training batches of a stage besides the anchor; only distillation needs more than views."""
        compares = self.networks[stage].hashing_model.num_views == 2
        views = self.cfg.anchor_view == "aug" or (self.trains(stage) and compares)
        if stage == "teacher":
            return Extras(views=views)
        views = views and (self.cfg.anchor_view == "aug" or self.cfg.student.hashing_weight > 0)
        asked = set(self.kd_method.needs) | set(self.warm_start.needs if self.warm_start else ())
        views = views or bool(asked & {"teacher_view", "views"})
        return Extras(self.kd_method.rotation_views, self.kd_method.num_positives, views)

    def stored_roles(self, stage: str) -> list[str]:
        """Networks whose features are read from the view store in the ``teacher`` or ``student`` stage.

        A fully frozen student implies a stored teacher, because the teacher's weights are fixed by then. The teacher
        stage also stores the student's features, so that every image is decoded and transformed only once.
        """
        if not self.view_store.serves(self.networks[stage].backbone, stage):
            return []
        if stage == "student":
            return ["teacher", "student"]
        both = self.cfg.stage != "teacher" and self.view_store.serves(self.student.backbone, "student")
        return ["teacher", "student"] if both else ["teacher"]

    def trains(self, stage: str) -> bool:
        """True if the network of a stage trains by gradients; otherwise its head is fitted in closed form."""
        if stage == "student" and self.kd_method.needs:
            return not self.kd_method.solves
        return self.networks[stage].hashing_model.trains

    def max_epochs(self, stage: str) -> int:
        """Maximum number of epochs of a stage; the trainer's own limit overrides the schedule's."""
        return self.cfg.trainer.get("max_epochs") or self.cfg[stage].max_epochs

    def provenance(self) -> dict[str, Any]:
        """Provenance of the student: its teacher, split, method and seed."""
        return {
            "teacher": self.teacher_id,
            "split": self.splits.fingerprint,
            "kd_method": self.coordinates["kd_method"],
            "method": self.kept_config["kd_method"],
            "uses_labels": self.kd_method.uses_labels,
            "transductive": self.cfg.student.train_on == "database",
            "seed": self.cfg.student.seed,
            "config": lasting_config(self.kept_config),
        }


def stored_teacher(cfg: DictConfig, fingerprint: str) -> Path:
    """Path in the store of the teacher with a fingerprint."""
    return Path(cfg.output_dir).resolve() / "teachers" / fingerprint / TEACHER
