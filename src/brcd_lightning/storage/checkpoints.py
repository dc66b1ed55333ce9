"""Reading and writing weights: never unpickled, never half-written, never loaded into another architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from brcd_lightning.errors import InputError
from brcd_lightning.storage.atomic import atomic_path
from brcd_lightning.storage.component_names import named_architecture

NETWORK_PREFIX = "network."


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written under a temporary name in the same folder and renamed.

    Lightning 2.6.6 writes through the system's temporary folder (not atomic across file systems) and swallows
    `PermissionError`, so a run can end well without its checkpoint; here the error reaches the user.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes `checkpoint` to `path`."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)  # given a path, it would not say why it cannot write

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint with ``weights_only=True``, whatever is asked."""
        return super().load_checkpoint(path, map_location=map_location, weights_only=True)


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Reads a flat dict of tensors from a safetensors file or a weights-only PyTorch file.

    Raises:
        InputError: for a missing, damaged or foreign file.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        _require_file(path)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is not a readable safetensors file: {error}.") from error
    content = _load_pickle_free(path)
    content = content.get("state_dict", content)
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} must hold a dict of tensors (a state dict).")
    return content


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist.")


def _load_pickle_free(path: Path) -> dict[str, Any]:
    _require_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes provoke: EOFError, KeyError, UnpicklingError, ...
        raise InputError(
            f"{path} is not a checkpoint that loads with weights_only=True (damaged or foreign)."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a dict, got {type(content).__name__}.")
    return content


def save_network(path: Path | str, network: nn.Module, architecture: Mapping[str, Any]) -> None:
    """Writes the weights of a hash network and what it is to one safetensors file, atomically.

    Args:
        path: target file.
        network: its state dict is written; equal weights give equal bytes.
        architecture: JSON-able description that `load_network` compares, plus any provenance under ``"about"``.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"brcd_lightning": json.dumps(architecture, sort_keys=True)})


def read_architecture(path: Path | str) -> dict[str, Any]:
    """Reads the description that was saved with a network, from either kind of file.

    Components have names, also where the file is of release 0.1.0 and holds import paths.

    Raises:
        InputError: if the file holds none.
    """
    path = Path(path)
    _require_file(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get("brcd_lightning")
        except SafetensorError as error:
            raise InputError(f"{path} is not a readable safetensors file: {error}.") from error
        found = json.loads(text) if text else None
    else:
        found = _load_pickle_free(path).get("hyper_parameters", {}).get("architecture")
    if not isinstance(found, dict):
        raise InputError(f"{path} does not say what network it holds; it was not written by brcd_lightning.")
    return named_architecture(found)


def load_network(path: Path | str, network: nn.Module, architecture: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Loads weights into `network` after checking that they belong to it.

    Args:
        path: a file of `save_network`, or a training checkpoint (``.ckpt``).
        network: the network to fill.
        architecture: what the configuration describes.
        role: ``teacher`` or ``student``, for the message.

    Returns:
        The description found in the file.

    Raises:
        InputError: naming the first property that differs, or the keys that do not fit.
    """
    found = read_architecture(path)
    for key, expected in architecture.items():
        if key != "about" and found.get(key) != expected:
            raise InputError(
                f"{role} checkpoint {path} has {key} {found.get(key)!r} but the configuration asks for {expected!r}; "
                f"give a matching checkpoint or change the configuration."
            )
    state = read_tensors(path)
    if Path(path).suffix != ".safetensors":
        state = {
            key.removeprefix(NETWORK_PREFIX): value for key, value in state.items() if key.startswith(NETWORK_PREFIX)
        }
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise InputError(f"{role} checkpoint {path} does not fit the network: {detail}") from error
    return found
