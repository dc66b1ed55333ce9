"""On-disk cache of test scores that do not depend on the student, keyed by their inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from brcd_lightning.storage.atomic import atomic_path

Scores = dict[str, Tensor]


class KeptScores:
    """Computes scores once for all runs that share a folder.

    The name of a file is the digest of everything that its scores depend on: the inputs and the source files of metrics
    and search. A file is therefore never out of date.

    Args:
        folder: folder of the files; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def of(self, inputs: Mapping[str, Tensor], protocol: str, compute: Callable[[], Scores]) -> Scores:
        """The scores of these inputs, read or computed.

        Args:
            inputs: tensors on the CPU by name.
            protocol: other settings that the scores depend on, such as K and the names of metrics.
            compute: function that computes the scores.
        """
        if self._folder is None:
            return compute()
        path = self._folder / f"{_digest(inputs, protocol)}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError):  # missing, or truncated by another program
            scores = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file(scores, temporary)
        return scores


def _digest(inputs: Mapping[str, Tensor], protocol: str) -> str:
    digest = hashlib.sha256(f"{_source()} {protocol}".encode())
    for name, tensor in inputs.items():
        digest.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:32]


@cache
def _source() -> str:
    """Digest of the source files that turn codes into scores."""
    package = Path(__file__).parents[1]
    files = [file for folder in ("codes", "metrics", "search") for file in sorted((package / folder).rglob("*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
