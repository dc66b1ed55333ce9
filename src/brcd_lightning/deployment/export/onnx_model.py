"""A hash encoder as one ONNX file: pixels in, soft values and packed codes out. Its metadata identify the encoder.

Shapes: M images, b bits, B = ceil(b / 8) bytes, S x S pixels of network input.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.storage.atomic import atomic_path

FORMAT, VERSION = "brcd_lightning.onnx", 1
INPUT, VALUES, PACKED = "images", "values", "packed"
FLOAT32, INT8 = "float32", "int8"


@dataclass(frozen=True)
class OnnxDescription:
    """Metadata of an exported encoder.

    Args:
        bits: code length b.
        fingerprint: of the encoder.
        role: ``student`` or ``teacher``.
        teacher: fingerprint of the teacher whose Hamming space the codes live in.
        transform: options of the evaluation transform, with its name as ``type``.
        precision: ``float32`` or ``int8``, of the weights and activations.
    """

    bits: int
    fingerprint: str
    role: str
    teacher: str
    transform: Mapping[str, Any]
    precision: str = FLOAT32


class HashGraph(nn.Module):
    """A hash network from pixels to soft values and packed codes, built from operations available in ONNX.

    Args:
        network: in eval mode.
    """

    places: Tensor

    def __init__(self, network: HashNetwork) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("places", 2 ** torch.arange(8, dtype=torch.int32), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Computes soft values (M, b) float32 and packed codes (M, B) uint8 of images (M, 3, S, S) uint8."""
        model = self.network.hashing_model
        logits = model.head(self.network.backbone(images.float() / 255))
        ones = nn.functional.pad((logits >= 0).to(torch.int32), (0, -model.bits % 8))
        packed = (ones.unflatten(1, (-1, 8)) * self.places).sum(2)
        return model.soft(logits), packed.to(torch.uint8)


def export_onnx(encoder: HashEncoder, path: Path) -> OnnxDescription:
    """Writes an encoder as an ONNX file that accepts any number of images.

    Args:
        encoder: on the CPU.
        path: of the file.

    Returns:
        The metadata of the file.

    Raises:
        InputError: for a network that cannot be exported.
    """
    told = encoder.description
    description = OnnxDescription(told.bits, encoder.fingerprint, told.role, told.teacher, dict(told.transform))
    size = int(told.transform["size"])
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    with _quietly():
        try:
            program = torch.onnx.export(
                HashGraph(encoder.network).eval(),
                (images,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[VALUES, PACKED],
                dynamic_shapes=({0: torch.export.Dim("M")},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"this network cannot be exported to ONNX ({reason}); use brcd encode.") from error
    if program is None:
        raise RuntimeError("the exporter returned no program")
    model = program.model_proto
    remove_provenance(model)
    save_model(model, description, path)
    return description


@contextmanager
def _quietly() -> Iterator[None]:
    """Silences the exporter's warnings about packages that are not used here."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def remove_provenance(model: onnx.ModelProto) -> None:
    """Removes the exporter's metadata of each operation: its stack traces contain local paths."""
    graph = model.graph
    for each in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")


def save_model(model: onnx.ModelProto, description: OnnxDescription, path: Path) -> None:
    """Writes a model with its metadata atomically.

    Args:
        model: whose metadata are replaced.
        description: content of the metadata.
        path: of the file.
    """
    told = {
        "format": FORMAT,
        "version": str(VERSION),
        "bits": str(description.bits),
        "fingerprint": description.fingerprint,
        "role": description.role,
        "teacher": description.teacher,
        "transform": json.dumps(dict(description.transform), sort_keys=True),
        "precision": description.precision,
    }
    onnx.helper.set_model_props(model, told)
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


def description_of(metadata: Mapping[str, str], path: Path) -> OnnxDescription:
    """Reads the metadata of an ONNX file.

    Args:
        metadata: of the file.
        path: of the file, for messages.

    Raises:
        InputError: if the file was not written by `export_onnx`.
    """
    try:
        if metadata["format"] != FORMAT or metadata["version"] != str(VERSION):
            raise ValueError("another format")
        return OnnxDescription(
            bits=int(metadata["bits"]),
            fingerprint=metadata["fingerprint"],
            role=metadata["role"],
            teacher=metadata["teacher"],
            transform=json.loads(metadata["transform"]),
            precision=metadata["precision"],
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} is not an encoder that brcd export has written.") from error
