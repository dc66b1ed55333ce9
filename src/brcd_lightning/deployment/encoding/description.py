"""Description of a hash encoder: everything except its weights, as stored in ``config.json``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any

from brcd_lightning import backbones
from brcd_lightning.data import transforms
from brcd_lightning.data.transforms import ImageTransforms
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashingModel, HashNetwork
from brcd_lightning.options import PositiveInt, Role, checked

FORMAT, VERSION = "brcd_lightning.HashEncoder", 1
BACKBONES: Mapping[str, Callable[..., backbones.Backbone]] = {
    "timm": backbones.timm_backbone,
    "torchvision": backbones.torchvision_backbone,
    "efficientnet_lite": backbones.efficientnet_lite_backbone,
    "small": backbones.small_backbone,
}
"""Constructors by their names in files, see `storage.component_names`."""
TRANSFORMS: Mapping[str, Callable[..., ImageTransforms]] = {
    "natural_images": transforms.natural_images,
    "digit_images": transforms.digit_images,
}
HASHING_MODELS = (
    *("bihalf", "cibhash", "greedyhash", "itq", "lsh"),
    *("mecoq", "pca_rr", "pcah", "sh", "tbh"),
)
_TYPE = "type"
_NOT_OF_ENCODERS = ("weights", "freeze")  # backbone options: weights come from the file, and nothing trains


@checked()
@dataclass(frozen=True)
class EncoderDescription:
    """A hash encoder without its weights.

    Args:
        bits: code length b.
        role: ``student`` or ``teacher``.
        backbone: options, with the name of the constructor as ``type``.
        hashing_model: options in the same form, with ``head``.
        transform: options of the evaluation transform in the same form.
        teacher: fingerprint of the teacher whose Hamming space the codes live in: the teacher itself, or the one that
            the student was distilled from.
        about: provenance for readers: data set, method, metrics and their protocol, commit. JSON-serialisable.

    Raises:
        InputError: for a component unknown to this release.
    """

    bits: PositiveInt
    role: Role
    backbone: Mapping[str, Any]
    hashing_model: Mapping[str, Any]
    transform: Mapping[str, Any]
    teacher: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (
            ("backbone", BACKBONES),
            ("hashing_model", HASHING_MODELS),
            ("transform", TRANSFORMS),
        ):
            options = getattr(self, name)
            if not isinstance(options, Mapping) or options.get(_TYPE) not in known:
                found = options.get(_TYPE) if isinstance(options, Mapping) else options
                raise InputError(f"an encoder's {name} must be one of {', '.join(known)}, got {found!r}.")

    def as_json(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def of_json(cls, content: object, path: object) -> EncoderDescription:
        """Reads `as_json`.

        Args:
            content: of the file.
            path: of the file, for messages.

        Raises:
            InputError: if the content does not describe a hash encoder.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(
                f"{path} does not describe a hash encoder; give a folder that save_pretrained has written."
            )
        if content.get("version") != VERSION:
            raise InputError(
                f"{path} is of version {content.get('version')!r}, this release reads {VERSION}; update brcd_lightning."
            )
        try:
            return cls(**{key: value for key, value in content.items() if key not in ("format", "version")})
        except TypeError as error:
            raise InputError(f"{path} does not describe a hash encoder: {error}.") from error

    def build_network(self) -> HashNetwork:
        """Builds the network with random weights, frozen and in eval mode.

        Raises:
            InputError: for options that its components do not accept.
        """
        options = {key: value for key, value in self.backbone.items() if key not in _NOT_OF_ENCODERS}
        kind = options[_TYPE]
        weights = {} if kind == "small" else {"weights": None}
        backbone = _called(BACKBONES[kind], options, freeze="full", **weights)
        model = _called(
            _hashing_model(self.hashing_model[_TYPE]),
            self.hashing_model,
            in_features=backbone.num_features,
            bits=self.bits,
        )
        return HashNetwork(backbone, model).requires_grad_(False).eval()

    def build_transforms(self) -> ImageTransforms:
        """Builds the transforms from decoded pixels to network input."""
        return _called(TRANSFORMS[self.transform[_TYPE]], self.transform)


def _hashing_model(name: str) -> type[HashingModel]:
    """The single model class of a module in `hashing`."""
    module = import_module(f"brcd_lightning.hashing.{name}")
    (found,) = (
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, HashingModel) and member.__module__ == module.__name__
    )
    return found


def _called(function: Callable[..., Any], options: Mapping[str, Any], **more: object) -> Any:
    arguments = {key: value for key, value in options.items() if key != _TYPE} | more
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise InputError(f"{options[_TYPE]} of an encoder: {error}.") from error
    return function(**arguments)
