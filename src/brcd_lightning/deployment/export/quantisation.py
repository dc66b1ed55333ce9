"""Eight-bit weights and activations for an exported encoder: static, with ranges taken from calibration images."""

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
"""Operations with the arithmetic; what is between them stays float32."""


class _Calibration(CalibrationDataReader):
    """Hands calibration images to the quantiser.

    Args:
        batches: (M, 3, S, S) uint8 each.
    """

    def __init__(self, batches: Iterable[Tensor]) -> None:
        self._batches: Iterator[Tensor] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}


def quantise(source: Path, target: Path, batches: Iterable[Tensor]) -> None:
    """Writes an exported encoder with eight-bit convolutions and products (quantise and dequantise pairs).

    Args:
        source: a float32 file of `export_onnx`.
        target: of the int8 file; its fingerprint is that of the same encoder.
        batches: calibration images (M, 3, S, S) uint8, prepared as the encoder does.

    Raises:
        InputError: for another source.
    """
    told = {each.key: each.value for each in onnx.load(source, load_external_data=False).metadata_props}
    description = replace(description_of(told, source), precision=INT8)
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)  # advice on preprocessing, which is done
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
