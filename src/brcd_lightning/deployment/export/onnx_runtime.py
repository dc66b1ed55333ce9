"""Inference with exported encoders: codes and soft values by ONNX Runtime, one thread per call."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor

from brcd_lightning.deployment.encoding.encoder import EncodedImages, HashEncoder
from brcd_lightning.deployment.export.onnx_model import FLOAT32, INPUT, PACKED, VALUES, description_of
from brcd_lightning.errors import InputError


class OnnxRuntime:
    """Computes codes with an exported encoder; implements `encoding.encoder.Runtime`.

    All threads share one session; each call computes on the calling thread.

    Args:
        path: of the file.
        fingerprint: of the expected encoder; None accepts any.

    Raises:
        InputError: if the file is not an exported encoder, or belongs to another encoder.
    """

    name = "onnx"

    def __init__(self, path: Path, fingerprint: str | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not os.path.isfile(path):
            raise InputError(f"{path} is not a file; write it with brcd export MODEL --onnx {path}.")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the package raises types of its own that share no other base
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} is not an ONNX file, or a damaged one: {reason}") from error
        self.description = description_of(self._session.get_modelmeta().custom_metadata_map, path)
        if fingerprint not in (None, self.description.fingerprint):
            raise InputError(
                f"{path} is of encoder {self.description.fingerprint}, not of {fingerprint}; export that one anew."
            )
        if self.description.precision != FLOAT32:  # its codes differ, and a folder of codes must not mix them
            self.name = f"onnx_{self.description.precision}"

    def __call__(self, pixels: Tensor) -> EncodedImages:
        """Computes codes and soft values of prepared images (M, 3, S, S) uint8."""
        codes, values = self._session.run([PACKED, VALUES], {INPUT: pixels.contiguous().numpy()})
        return EncodedImages(torch.from_numpy(codes), torch.from_numpy(values))


def with_onnx(encoder: HashEncoder, path: Path, *, any_precision: bool = False) -> HashEncoder:
    """Returns the encoder with an exported file as its runtime.

    Args:
        encoder: from which the file was exported.
        path: of the file.
        any_precision: also accept an int8 file, whose codes differ from those of the encoder.

    Raises:
        InputError: if the file is missing, or belongs to another encoder or precision.
    """
    runtime = OnnxRuntime(path, encoder.fingerprint)
    if not any_precision and runtime.description.precision != FLOAT32:
        precision = runtime.description.precision
        raise InputError(f"{path} is {precision}, whose codes differ from the model's; give the float32 file.")
    return HashEncoder(encoder.network, encoder.description, runtime)
