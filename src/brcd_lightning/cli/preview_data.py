"""The command ``brcd preview-data``: a picture of anchors and their views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console

from brcd_lightning.cli.command_parser import CommandParser
from brcd_lightning.cli.hydra_command import config_parser, read_config
from brcd_lightning.config import build, check_parts
from brcd_lightning.errors import ExitCode
from brcd_lightning.storage.atomic import atomic_path

if TYPE_CHECKING:
    from brcd_lightning.data.splits import Splits
    from brcd_lightning.data.transforms import ImageTransforms

IMAGES, VIEWS = 8, 6


def main(arguments: Sequence[str]) -> int:
    """Draws training images of a configuration.

    Args:
        arguments: Hydra overrides.

    Raises:
        InputError: for a wrong option, or if the data set is missing.
    """
    cfg = read_config(arguments, parser())
    if cfg is not None:
        preview(cfg)
    return ExitCode.OK


def parser() -> CommandParser:
    """The arguments of ``brcd preview-data``."""
    return config_parser(
        "preview-data",
        description="Draws training images, their anchors and their augmented views as a network receives them.",
        example="dataset=cifar10",
    )


def preview(cfg: DictConfig) -> None:
    """Writes ``preview_<data set>.png`` into the output folder."""
    check_parts(cfg, "dataset", "transform")
    path = Path(cfg.output_dir) / f"preview_{cfg.dataset._target_.rpartition('.')[2]}.png"
    save_preview(path, build(cfg.dataset), build(cfg.transform), cfg.seed)
    Console(soft_wrap=True, highlight=False).print(f"Preview: {path.resolve()}")


def save_preview(path: Path, splits: Splits, transforms: ImageTransforms, seed: int = 0) -> None:
    """Draws evenly spaced training images: each image, its anchor and its views, as a network receives them.

    Args:
        path: target file.
        splits: the data set.
        transforms: evaluation and view transform.
        seed: seed of the views.
    """
    import torch  # --help needs none of these
    from matplotlib.figure import Figure
    from torch.utils.data import default_collate

    from brcd_lightning.distributed.seeding import random_stream

    count = min(IMAGES, len(splits.train))
    places = torch.linspace(0, len(splits.train) - 1, count).round().long().tolist()
    titles = ["image", "anchor", *(f"view {number + 1}" for number in range(VIEWS))]
    figure = Figure(figsize=(1.1 * len(titles), 1.15 * count + 0.4), dpi=130, layout="constrained")
    cells = figure.subplots(count, len(titles), squeeze=False)
    for row, index in zip(cells, places, strict=True):
        pixels = splits.source.load(int(splits.train[index]))
        shown = [transforms.prepare(pixels)]
        for view in range(VIEWS):
            with random_stream(seed, 0, index, view):
                shown.append(transforms.prepare_view(pixels))
        # An anchor has no colour augmentation to apply, so it is finished separately.
        inputs = [*transforms.finish(default_collate(shown[:1])), *transforms.finish(default_collate(shown[1:]))]
        for axes, image in zip(row, [pixels, *((one * 255).round().to(torch.uint8) for one in inputs)], strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_axis_off()
    for axes, title in zip(cells[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
