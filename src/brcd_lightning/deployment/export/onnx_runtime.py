"""Exported encoders at work: packed codes by ONNX Runtime, one thread a call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from torch import Tensor

from brcd_lightning.deployment.export.onnx_model import FLOAT32, INPUT, PACKED, VALUES, description_of
from brcd_lightning.errors import InputError


class OnnxRuntime:
    """Computes codes by an exported encoder; `deployment.encoding.corpus.Runtime`.

    One session serves all threads; each call computes on the thread that makes it.

    Args:
        path: of the file.
        fingerprint: of the encoder that is expected; any when None.

    Raises:
        InputError: for another file, or one of another encoder.
    """

    name = "onnx"

    def __init__(self, path: Path, fingerprint: str | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not path.is_file():
            raise InputError(f"{path} is no file; write it with brcd export MODEL --onnx {path}.")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the package raises kinds of its own that share no other base
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} is no ONNX file, or a damaged one: {reason}") from error
        self.description = description_of(self._session.get_modelmeta().custom_metadata_map, path)
        if fingerprint not in (None, self.description.fingerprint):
            raise InputError(
                f"{path} is of encoder {self.description.fingerprint}, not of {fingerprint}; export that one anew."
            )
        if self.description.precision != FLOAT32:  # other codes, which a folder of codes must not mix
            self.name = f"onnx_{self.description.precision}"

    def __call__(self, pixels: Tensor) -> np.ndarray:
        """Packed codes (M, B) uint8 of prepared images (M, 3, S, S) uint8."""
        return self._run(pixels, PACKED)

    def values(self, pixels: Tensor) -> np.ndarray:
        """Soft values (M, b) float32 of prepared images (M, 3, S, S) uint8."""
        return self._run(pixels, VALUES)

    def _run(self, pixels: Tensor, output: str) -> np.ndarray:
        found: list[Any] = self._session.run([output], {INPUT: pixels.contiguous().numpy()})
        return found[0]
