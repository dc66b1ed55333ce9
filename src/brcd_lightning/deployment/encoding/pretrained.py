"""Encoders in folders and on the Hugging Face hub: ``config.json``, ``model.safetensors`` and a model card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jinja2 import Environment, PackageLoader, StrictUndefined

from brcd_lightning.deployment.encoding.description import EncoderDescription
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.options import Role, checked
from brcd_lightning.storage.atomic import write_text
from brcd_lightning.storage.checkpoints import save_network

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def save_folder(folder: Path, network: HashNetwork, description: EncoderDescription, fingerprint: str) -> None:
    """Writes the files of one encoder. ``config.json`` comes last, so a folder that has it is complete.

    Args:
        folder: created if missing.
        network: whose weights are written.
        description: of the network.
        fingerprint: of the encoder, for the model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_network(folder / WEIGHTS, network, {"bits": description.bits, "fingerprint": fingerprint})
    write_text(folder / CARD, model_card(description, fingerprint))
    write_text(folder / CONFIG, json.dumps(description.as_json(), indent=2, sort_keys=True) + "\n")


@checked()
def load_folder(folder: Path, role: Role) -> tuple[EncoderDescription, Path]:
    """Returns the description in a folder and the path of its weights.

    Args:
        folder: written by `save_folder`.
        role: ``student`` or ``teacher``; in the folder of a student, the teacher is in ``teacher/``.

    Raises:
        InputError: if the folder holds no such encoder.
    """
    for place in (folder, folder / role):
        if (place / CONFIG).is_file() and (place / WEIGHTS).is_file():
            description = EncoderDescription.of_json(_read_json(place / CONFIG), place / CONFIG)
            if description.role == role:
                return description, place / WEIGHTS
    raise InputError(
        f"{folder} holds no {role}; give the folder of a finished run, or one that save_pretrained has written."
    )


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}.") from error


def download(repo_id: str, revision: str | None) -> Path:
    """Downloads a repository from the hub once, and returns its local folder.

    Raises:
        InputError: if it does not exist or cannot be reached.
    """
    try:
        found = snapshot_download(repo_id, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.md"])
    except HFValidationError as error:
        raise InputError(
            f"{repo_id} is neither a folder nor an owner/name of a repository on the Hugging Face hub."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{repo_id} is not a folder here, and cannot be fetched from the hub: {reason}") from error
    return Path(found)


def upload(repo_id: str, save: Callable[[str], Path], *, private: bool, token: str | None) -> str:
    """Uploads the files that `save` writes into a folder, and returns the URL of the commit.

    Raises:
        InputError: if the hub refuses.
    """
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            done = api.upload_folder(repo_id=repo_id, folder_path=save(folder), commit_message="Upload HashEncoder")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"the hub did not take {repo_id}: {str(error).splitlines()[0]}") from error
    return str(done.commit_url)


def model_card(description: EncoderDescription, fingerprint: str) -> str:
    """Renders the model card: Markdown with the metadata of the hub."""
    environment = Environment(
        loader=PackageLoader("brcd_lightning.deployment.encoding", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    about: dict[str, Any] = dict(description.about)
    metrics = sorted((name, value) for name, value in about.get("metrics", {}).items() if name.startswith("test/map"))
    return environment.get_template("model_card.md").render(
        description=description,
        about=about,
        row=about.get("row", {}),
        metrics=metrics,
        protocol=about.get("metric_protocol", {}),
        fingerprint=fingerprint,
    )
