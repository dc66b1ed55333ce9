"""`HashEncoder`: a trained model as one object, from image files to packed codes.

Shapes: M images, b bits, B = ceil(b / 8) bytes, S x S pixels of network input.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import torch
from PIL import Image
from torch import Tensor

from brcd_lightning.codes import pack
from brcd_lightning.deployment.encoding.description import EncoderDescription
from brcd_lightning.deployment.encoding.folding import folded
from brcd_lightning.deployment.encoding.preparation import ImageLike, pixels_of, prepare_each
from brcd_lightning.deployment.encoding.pretrained import download, load_folder, save_folder, upload
from brcd_lightning.deployment.encoding.run_models import is_run, model_of_run
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.options import PositiveInt, Role, checked
from brcd_lightning.storage.checkpoints import read_tensors

__all__ = ["EncodedImages", "HashEncoder", "ImageLike", "Runtime"]
_DECODERS = 4
"""Threads that decode images; PIL releases the GIL while decoding."""


class EncodedImages(NamedTuple):
    """Codes of M images, and the soft values whose signs they are."""

    codes: Tensor
    """(M, B) uint8, packed, see `codes.pack`."""
    values: Tensor
    """(M, b) float32 in (-1, 1), for float queries."""


class Runtime(Protocol):
    """Computes codes and soft values in place of the network."""

    name: str

    def __call__(self, pixels: Tensor) -> EncodedImages:
        """Codes and soft values of prepared images (M, 3, S, S) uint8."""


class HashEncoder:
    """Maps images to packed codes. Make one with `from_pretrained`.

    Args:
        network: with loaded weights; switched to eval mode.
        description: of the network and its input.
        runtime: replaces the network in the computation, such as an `export.onnx_runtime.OnnxRuntime`; None for torch.

    Examples:
        >>> from brcd_lightning.deployment.encoding.description import EncoderDescription
        >>> description = EncoderDescription(
        ...     bits=16,
        ...     role="student",
        ...     teacher="",
        ...     backbone={"type": "small", "widths": [4], "grid": 2},
        ...     hashing_model={"type": "cibhash", "head": "linear"},
        ...     transform={"type": "natural_images", "size": 32},
        ... )
        >>> encoder = HashEncoder(description.build_network(), description)  # random weights; see `from_pretrained`
        >>> codes = encoder.encode([Image.new("RGB", (40, 30)), Image.new("RGB", (30, 30))])
        >>> codes.shape, codes.dtype
        (torch.Size([2, 2]), torch.uint8)
    """

    def __init__(self, network: HashNetwork, description: EncoderDescription, runtime: Runtime | None = None) -> None:
        self.network = network.requires_grad_(False).eval()
        self.description = description
        self.runtime = runtime
        self._transforms = description.build_transforms()

    @classmethod
    @checked()
    def from_pretrained(
        cls,
        source: str | PathLike[str],
        *,
        role: Role = "student",
        revision: str | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Loads an encoder.

        Args:
            source: folder of a run, folder of `save_pretrained`, or ``owner/name`` on the Hugging Face hub.
            role: ``student``, or ``teacher``, which encodes the database in ASHP.
            revision: branch, tag or commit of a repository on the hub.
            device: of the network.

        Raises:
            InputError: if no encoder is found, its weights do not match its description, or the device is unavailable.
        """
        device, path = usable_device(device), Path(source).expanduser()
        is_folder = os.path.isdir(path)  # False for invalid file names, for which Path.is_dir raises
        if is_folder and is_run(path):
            description, weights = model_of_run(path, role)
        else:
            folder = path if is_folder else download(str(source), revision)
            description, weights = load_folder(folder, role)
        network = description.build_network()
        try:
            network.load_state_dict(read_tensors(weights))
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:300]
            raise InputError(f"the weights {weights} do not fit their description: {detail}") from error
        return cls(network.to(device), description)

    @property
    def bits(self) -> int:
        """Code length b."""
        return self.description.bits

    @property
    def role(self) -> Role:
        """``student`` or ``teacher``."""
        return self.description.role

    @property
    def runtime_name(self) -> str:
        """Name of the backend that computes the codes: ``torch``, or the name of the runtime."""
        return "torch" if self.runtime is None else self.runtime.name

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    @property
    def _size(self) -> int:
        """Side of the network input in pixels."""
        return int(self.description.transform.get("size", 224))

    @cached_property
    def folded_network(self) -> HashNetwork:
        """The network with folded batch norms, which takes two thirds of the time of the original."""
        backbone = folded(self.network.backbone, self._size)
        return HashNetwork(backbone, self.network.hashing_model).requires_grad_(False).eval()

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of weights and transform; equal for encoders that produce equal codes."""
        told = self.description.as_json()
        kept = {key: told[key] for key in ("bits", "backbone", "hashing_model", "transform")}
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().data)
        return digest.hexdigest()[:16]

    def encode(self, images: ImageLike | Sequence[ImageLike], batch_size: int = 64) -> Tensor:
        """Encodes images into packed codes (M, B) uint8.

        Args:
            images: one or several paths, PIL images or tensors.
            batch_size: images per forward pass.

        Raises:
            InputError: if an image cannot be decoded; the message names it.
        """
        return self.encode_soft(images, batch_size).codes

    def values(self, images: ImageLike | Sequence[ImageLike], batch_size: int = 64) -> Tensor:
        """Computes soft values (M, b) float32 of queries, for ``HammingIndex.search(..., rescore=values)``."""
        return self.encode_soft(images, batch_size).values

    @checked()
    def encode_soft(self, images: ImageLike | Sequence[ImageLike], batch_size: PositiveInt = 64) -> EncodedImages:
        """Computes codes and soft values in one pass; see `encode`."""
        several = [images] if isinstance(images, str | PathLike | Image.Image | Tensor) else list(images)
        codes, values = [pack(torch.ones(0, self.bits, dtype=torch.int8))], [torch.empty(0, self.bits)]
        with ThreadPoolExecutor(_DECODERS) as pool:
            for start in range(0, len(several), batch_size):
                found = self.encode_pixels(
                    torch.stack(list(pool.map(self.prepare, several[start : start + batch_size])))
                )
                codes.append(found.codes)
                values.append(found.values)
        return EncodedImages(torch.cat(codes), torch.cat(values))

    def prepare(self, image: ImageLike) -> Tensor:
        """Prepares one image as network input (3, S, S) uint8.

        Raises:
            InputError: if the image cannot be decoded; the message names its path.
        """
        return self._transforms.evaluation(pixels_of(image))

    def prepare_each(self, images: Iterable[ImageLike], reduced: bool = False) -> list[Tensor | Exception]:
        """Prepares images as `prepare` does. Returns network input (3, S, S) uint8 or the error for each.

        Args:
            images: decoded one after another.
            reduced: decode large JPEG files at a fraction of their size, at least twice that of the network input.
        """
        return prepare_each(images, self._transforms.evaluation, 2 * round(self._size * 8 / 7) if reduced else None)

    def warm_up(self) -> Self:
        """Folds the batch norms now, so that the first images need not wait for it. Returns the encoder."""
        size = self._size
        self.encode_pixels(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        return self

    def encode_pixels(self, pixels: Tensor) -> EncodedImages:
        """Computes codes and soft values of prepared images (M, 3, S, S) uint8; the results are on the CPU."""
        if self.runtime is not None:
            return self.runtime(pixels)
        images = pixels.to(self.device).float().div_(255).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            codes, values = self.folded_network.encode_soft(images)
        return EncodedImages(pack(codes).cpu(), values.cpu())

    @checked()
    def save_pretrained(self, folder: str | PathLike[str], *, teacher: HashEncoder | None = None) -> Path:
        """Writes the encoder into a folder: ``config.json``, ``model.safetensors`` and a model card.

        Args:
            folder: created if missing. Files of other names are left alone.
            teacher: written to the subfolder ``teacher/``, for ASHP databases.

        Returns:
            The folder.

        Raises:
            InputError: if the teacher is not the one that this student was distilled from.
        """
        if teacher is not None and not isinstance(teacher, HashEncoder):
            raise InputError(f"teacher must be a HashEncoder, got {type(teacher).__name__}.")
        path = Path(folder).expanduser()
        save_folder(path, self.network, self.description, self.fingerprint)
        if teacher is not None:
            if teacher.role != "teacher" or teacher.description.teacher != self.description.teacher:
                raise InputError(f"this student belongs to teacher {self.description.teacher}; give that one.")
            save_folder(path / "teacher", teacher.network, teacher.description, teacher.fingerprint)
        return path

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Uploads the encoder to the Hugging Face hub.

        Args:
            repo_id: ``owner/name``; created if missing.
            private: make a new repository private.
            token: None for the one stored by ``hf auth login``.

        Returns:
            URL of the commit.
        """
        return upload(repo_id, self.save_pretrained, private=private, token=token)


def usable_device(name: str | torch.device) -> torch.device:
    """Returns the device of a name, after a check that it is usable.

    Raises:
        InputError: if the device does not exist, or torch cannot use it.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"device {str(name)!r} cannot be used: {reason}; choose cpu or cuda.") from error
