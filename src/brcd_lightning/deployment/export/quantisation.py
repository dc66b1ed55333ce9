"""Static 8-bit quantisation of an exported encoder's weights and activations, calibrated on images."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from brcd_lightning.deployment.export.onnx_model import INPUT, INT8, description_of, save_model

_QUANTISED = ["Conv", "Gemm", "MatMul"]
"""Operations that are quantised; everything between them stays float32."""


class _Calibration(CalibrationDataReader):
    """Feeds calibration images to the quantiser.

    Args:
        batches: (M, 3, S, S) uint8 each.
    """

    def __init__(self, batches: Iterable[Tensor]) -> None:
        self._batches: Iterator[Tensor] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Returns the next batch, or None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}


def quantise(source: Path, target: Path, batches: Iterable[Tensor]) -> None:
    """Writes an exported encoder with 8-bit convolutions and matrix products (QDQ format).

    Args:
        source: float32 file written by `export_onnx`.
        target: path of the int8 file, which keeps the fingerprint of the encoder.
        batches: calibration images (M, 3, S, S) uint8, prepared by the encoder.

    Raises:
        InputError: if the source is not such a file.
    """
    told = {each.key: each.value for each in onnx.load(source, load_external_data=False).metadata_props}
    description = replace(description_of(told, source), precision=INT8)
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)  # advice to preprocess the model, which is done here
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(quantised),
                _Calibration(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_QUANTISED,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            save_model(onnx.load(quantised), description, target)
    finally:
        logger.setLevel(before)
