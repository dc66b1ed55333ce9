"""The folder of a run: claimed by one set of options, and cleared of files of an earlier run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from brcd_lightning.errors import InputError
from brcd_lightning.experiment.context import RunContext
from brcd_lightning.results.identity import lasting_options
from brcd_lightning.results.run_files import CHECKPOINTS, CONFIG, DONE, PRUNED, RESULTS, RESUME, SKIPPED
from brcd_lightning.storage.atomic import remove_temporaries, write_text
from brcd_lightning.storage.csv_cells import plain_cell
from brcd_lightning.storage.locks import locked

PATIENCE_S = 30.0
"""Seconds within which the workers of a killed run end, too."""


def own_run_folder(run_dir: Path) -> AbstractContextManager[None]:
    """Locks the folder of a run against other runs, which would replace its files and checkpoints.

    Raises:
        InputError: when entered, if another process still runs there after `PATIENCE_S`.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    return locked(run_dir / ".lock", "runs in this folder", give_up_s=PATIENCE_S)


def take_run_folder(context: RunContext) -> None:
    """Claims the folder of the run, and removes the files of an earlier run unless that run is to be resumed."""
    for folder in (context.run_dir, *context.run_dir.glob(f"{CHECKPOINTS}/*")):
        remove_temporaries(folder)
    for metrics in context.run_dir.glob("metrics/*/metrics.csv"):  # which Lightning's logger would overwrite
        earlier = len(list(metrics.parent.iterdir()))
        metrics.rename(metrics.with_name(f"metrics_before_{earlier}.csv"))
    outcome = [context.run_dir / name for name in (DONE, PRUNED, RESULTS)]
    if context.cfg.resume != "auto":
        outcome += [context.run_dir / CONFIG, *context.run_dir.glob(f"{CHECKPOINTS}/*/{RESUME}")]
    for path in outcome:
        path.unlink(missing_ok=True)
    claim_run_folder(context.run_dir, context.config)
    if not context.splits.skipped:
        return
    text = io.StringIO()
    skipped = ((plain_cell(name), plain_cell(reason)) for name, reason in context.splits.skipped.items())
    csv.writer(text).writerows([("image", "reason"), *skipped])
    write_text(context.run_dir / SKIPPED, text.getvalue())


def claim_run_folder(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Records the options of a run in its folder; an interrupted run can be resumed only with the same options.

    Args:
        run_dir: folder of the run.
        config: the whole resolved configuration, plain.

    Raises:
        InputError: naming the first option that differs from those of the run in the folder.
    """
    path = run_dir / CONFIG
    options = lasting_options(config)
    try:
        found = lasting_options(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        found = options
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove the folder to start anew.") from error
    for key in sorted(found.keys() | options.keys()):
        if found.get(key) != options.get(key):
            raise InputError(
                f"resume=auto: {run_dir} holds a run with {key}={found.get(key)!r}, this one has "
                f"{options.get(key)!r}; give the same options, or another hydra.run.dir."
            )
    write_text(path, json.dumps(options, indent=1, sort_keys=True) + "\n")
