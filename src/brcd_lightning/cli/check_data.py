"""The command ``brcd check-data``: checks that a data set is present and summarises it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from brcd_lightning.cli.command_parser import CommandParser
from brcd_lightning.cli.hydra_command import config_parser, read_config
from brcd_lightning.config import build, check_parts
from brcd_lightning.errors import ExitCode, InputError

_SHOWN = 12


def main(arguments: Sequence[str]) -> int:
    """Checks the data set of a configuration.

    Args:
        arguments: Hydra overrides.

    Raises:
        InputError: for a wrong option or missing files.
    """
    cfg = read_config(arguments, parser())
    if cfg is not None:
        check_data(cfg)
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd check-data``."""
    return config_parser(
        "check-data",
        description="Builds a data set as training would, and prints a summary or what is missing.",
        example="dataset=mscoco dataset.root=DIR",
    )


def check_data(cfg: DictConfig) -> None:
    """Builds the data set as a run would, and prints a summary.

    Raises:
        InputError: for a wrong option or missing files.
    """
    from brcd_lightning.data.manifest import manifest, write_manifest  # these load torch, which --help does not need
    from brcd_lightning.data.splits import SPLITS

    check_parts(cfg, "dataset", "data")
    console = Console(soft_wrap=True, highlight=False, markup=False)  # file names may contain brackets
    root = cfg.dataset.get("root")
    if root is not None:
        console.print(f"{Path(root).expanduser().resolve()}: {_content(Path(root).expanduser())}")
    splits = build(cfg.dataset)
    if len(splits.train) < cfg.data.batch_size:
        raise InputError(f"{len(splits.train)} training images are fewer than data.batch_size={cfg.data.batch_size}.")
    found = manifest(splits)
    table = Table("role", "images", "without a label")
    for role in SPLITS:
        table.add_row(role, f"{found['sizes'][role]:,}", f"{found['without_label'][role]:,}")
    console.print(table)
    classes = splits.source.classes
    named = f": {', '.join(classes[:_SHOWN])}{', …' if len(classes) > _SHOWN else ''}" if classes else ""
    counted = f"{found['classes']} classes{named}"
    judged = counted if splits.has_labels else f"No labels; relevant items are {splits.relevance}"
    console.print(f"{judged}; {found['train_in_database']:,} training images are in the database.")
    if repetition := splits.repetition:
        console.print(f"Repeated: {repetition}.")
    if found["skipped"]:
        console.print(f"Left out as unreadable: {', '.join(list(found['skipped'])[:_SHOWN])}")
    console.print(f"Manifest: {write_manifest(Path(cfg.output_dir) / 'splits', splits)}")


def _content(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "empty"
