"""Reading and writing of weights: no unpickling, no partial files, no loading into a different architecture."""

from __future__ import annotations

import hashlib
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
REMEDY = "Remove it to restart the stage."
"""Remedy for a checkpoint from which training cannot continue."""
_OF_A_TRAINING = frozenset({"callbacks", "epoch", "global_step", "loops", "optimizer_states", "state_dict"})
_DESCRIPTION = "brcd_lightning"
_DIGEST = "weights_sha256"
"""Key of the digest of the weights in the description. Files of earlier releases have none."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written under a temporary name in the same folder and renamed.

    Lightning 2.6.6 writes through the system's temporary folder (not atomic across file systems) and swallows
    `PermissionError`, so a run can succeed without writing its checkpoint. Here the error is raised.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes `checkpoint` to `path`."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)  # given a path, it would not report why writing fails

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint with ``weights_only=True``, regardless of the argument.

        Raises:
            InputError: for a damaged or foreign file.
        """
        content = _load_pickle_free(Path(path))
        if absent := sorted(_OF_A_TRAINING - content.keys()):
            raise InputError(f"{path} lacks {', '.join(absent)}; it is not a checkpoint of a training. {REMEDY}")
        _require_numbers(path, content["state_dict"], f"{REMEDY[0].lower()}{REMEDY[1:]}")
        return content


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Reads a flat dict of tensors from a safetensors file or a weights-only PyTorch file.

    Raises:
        InputError: for a missing, damaged or foreign file, and for non-finite values.
    """
    path = Path(path)
    content: dict[str, Any]
    if path.suffix == ".safetensors":
        described = _description(path)
        try:
            content = load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is not a readable safetensors file: {error}.") from error
        # The weights of a file without a digest cannot be verified.
        known = described.get(_DIGEST) if isinstance(described, dict) else None
        if known is not None and known != _digest(content):
            raise InputError(f"{path} is damaged: its weights do not match their checksum; use another file.")
    else:
        content = _load_pickle_free(path)
        content = content.get("state_dict", content)
        named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
        if not named or not all(isinstance(value, Tensor) for value in content.values()):
            raise InputError(f"{path} must hold a dict of tensors by name (a state dict).")
    _require_numbers(path, content, "use another file.")
    return content


def _require_numbers(path: Path | str, tensors: Mapping[str, Tensor], remedy: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(f"{path} holds non-finite values in {name}; {remedy}")


def _description(path: Path) -> object:
    """The description in a safetensors file; None if it holds none.

    Raises:
        InputError: for a missing, damaged or foreign file.
    """
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_DESCRIPTION)
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}.") from error
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} holds a damaged description of its network; use another file.") from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist.")


def _load_pickle_free(path: Path) -> dict[str, Any]:
    _require_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged bytes: EOFError, KeyError, UnpicklingError, ...
        raise InputError(
            f"{path} is not a checkpoint that loads with weights_only=True (damaged or foreign)."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a dict, got {type(content).__name__}.")
    return content


def save_network(path: Path | str, network: nn.Module, architecture: Mapping[str, Any]) -> None:
    """Writes the weights and the description of a hash network to one safetensors file, atomically.

    Args:
        path: target file.
        network: network whose state dict is written; equal weights give equal bytes.
        architecture: JSON-serializable description that `load_network` compares, plus any provenance under ``"about"``.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    description = {**architecture, _DIGEST: _digest(tensors)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_DESCRIPTION: json.dumps(description, sort_keys=True)})


def read_architecture(path: Path | str) -> dict[str, Any]:
    """Reads the description that was saved with a network, from either kind of file.

    Components are given by name, also for files of release 0.1.0, which hold import paths.

    Raises:
        InputError: if the file holds no description.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        found = _description(path)
    else:
        parameters = _load_pickle_free(path).get("hyper_parameters")
        found = parameters.get("architecture") if isinstance(parameters, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("about", {}), dict):
        raise InputError(f"{path} does not say what network it holds; it was not written by brcd_lightning.")
    try:
        return named_architecture({key: value for key, value in found.items() if key != _DIGEST})
    except (AttributeError, TypeError, KeyError) as error:  # for example a component whose name is not text
        raise InputError(f"{path} holds a damaged description of its network; use another file.") from error


def load_network(path: Path | str, network: nn.Module, architecture: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Loads weights into `network` after checking that they match it.

    Args:
        path: a file of `save_network`, or a training checkpoint (``.ckpt``).
        network: the network to fill.
        architecture: description by the configuration.
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
    _require_kinds(f"{role} checkpoint {path}", state, network)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise InputError(f"{role} checkpoint {path} does not fit the network: {detail}") from error
    return found


def _require_kinds(what: str, state: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raises `InputError` if integers are given for floats or vice versa, which torch converts silently."""
    for name, own in network.state_dict().items():
        given = state.get(name, own)
        if given.is_floating_point() != own.is_floating_point():
            raise InputError(f"{what} holds {given.dtype} as {name}, which is {own.dtype} in the network.")
