"""TBH: twin-bottleneck hashing (Shen et al., CVPR 2020), an auto-encoder with a graph over the codes of a batch.

Shapes: M images in a batch, b bits, d features, L latent variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from brcd_lightning.codes import straight_through
from brcd_lightning.hashing.base import HashingModel, HashOutput
from brcd_lightning.memory import require_memory
from brcd_lightning.options import Head, NonNegative, NonNegativeInt, Positive, PositiveInt

Reconstruction = Literal["element", "sum", "paper"]
Adversary = Literal["nonsaturating", "minimax"]
_EPS = 1e-8


def adjacency(bits: Tensor, power: float = 1.0) -> Tensor:
    """Similarity (M, M) of bits (M, b) in {0, 1}: one minus the fraction of differing bits, raised to a power."""
    differing = bits @ (1 - bits).T + (1 - bits) @ bits.T
    similarity = 1 - differing / bits.shape[1]
    return similarity.clamp_min(0) ** power  # rounding can make it negative


def normalised(similarity: Tensor) -> Tensor:
    """Symmetrically normalised graph (M, M): rows and columns are divided by the square root of the row sums."""
    scale = (similarity.sum(dim=1) + _EPS).rsqrt()
    return scale[:, None] * similarity * scale


def reconstruction_loss(features: Tensor, decoded: Tensor, scale: Reconstruction, bits: int) -> Tensor:
    """Half the squared error of decoded features (M, d): per ``element``, as a ``sum``, or per bit as in the ``paper``.

    Examples:
        >>> import torch
        >>> reconstruction_loss(torch.zeros(2, 3), torch.ones(2, 3), "element", bits=8).item()
        0.5
    """
    half = F.mse_loss(decoded, features, reduction="sum") / 2
    return half / {"element": features.numel(), "sum": 1, "paper": len(features) * bits}[scale]


def critic_loss(prior: Tensor, code: Tensor) -> Tensor:
    """Cross-entropy of distinguishing draws of the prior from codes, given their logits (M, 1).

    Examples:
        >>> import torch
        >>> round(critic_loss(torch.tensor([[9.0]]), torch.tensor([[-9.0]])).item(), 3)  # both told apart
        0.0
    """
    return F.softplus(-prior).mean() + F.softplus(code).mean()


class Standardizer(nn.Module):
    """Standardises features by the running mean and standard deviation of all training images so far.

    Args:
        width: d.
    """

    count: Tensor  # (), number of images so far
    mean: Tensor  # (d,)
    squares: Tensor  # (d,) summed squared deviations

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("squares", torch.zeros(width))

    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        """Standardised features (M, d); during training, updates the statistics first."""
        if self.training:
            own = features.mean(dim=0)
            total, shift = self.count + len(features), own - self.mean
            self.squares += (features - own).square().sum(dim=0) + shift**2 * self.count * len(features) / total
            self.mean += shift * len(features) / total
            self.count.copy_(total)
        deviation = (self.squares / self.count.clamp_min(1)).sqrt()
        return (features - self.mean) / torch.where(deviation > _EPS, deviation, 1)


class TBH(HashingModel):
    """TBH: one view, an auto-encoder with a graph over the batch.

    The codes (bottleneck 1) define a graph. Latent variables (bottleneck 2) are averaged over it and decoded to the
    features. Two critics keep both bottlenecks close to their priors. The critics' loss has no gradient to the codes,
    and the codes' adversarial loss has none to the critics. A single optimiser can therefore train both sides from one
    forward pass, like the two optimisers of the original. Decoder and critics are used only for training.

    Args:
        in_features: width d of the backbone's features.
        bits: code length b.
        latent_features: L.
        power: exponent of the graph's similarities; 1 in the paper.
        stochastic: whether to threshold bits at uniform draws, as in the paper, instead of 1/2.
        latent_activation: whether a sigmoid follows the latent layer; the paper has none.
        reconstruction: see `reconstruction_loss`.
        adversarial: weight of the codes' adversarial term; large weights make all codes equal.
        adversary: ``nonsaturating`` (the paper), or ``minimax``, the negated loss of the critics (the original code).
        critic_features: hidden width of the critics; 0 for a single layer.
        head: see `HashingModel`; the latent layer has the same input as the last layer of the head.
        hidden_features: see `HashingModel`; also the hidden width of the decoder.
    """

    def __init__(
        self,
        in_features: PositiveInt,
        bits: PositiveInt,
        latent_features: PositiveInt = 512,
        power: Positive = 1.4,
        stochastic: bool = False,
        latent_activation: bool = True,
        reconstruction: Reconstruction = "element",
        adversarial: NonNegative = 5e-5,
        adversary: Adversary = "nonsaturating",
        critic_features: NonNegativeInt = 0,
        head: Head = "mlp",
        hidden_features: PositiveInt = 1024,
    ) -> None:
        super().__init__(in_features, bits, head, hidden_features)
        _require_autoencoder_memory(in_features, hidden_features, latent_features)
        require_memory("hashing_model.critic_features", critic_features, 4 * critic_features * (bits + latent_features))
        self.power, self.stochastic, self.latent_activation = power, stochastic, latent_activation
        self.reconstruction, self.adversarial, self.adversary = reconstruction, adversarial, adversary
        self.standardize = Standardizer(in_features)
        self.latent = nn.Linear(in_features if head == "linear" else hidden_features, latent_features)
        self.graph = nn.Linear(latent_features, latent_features)
        self.decoder = nn.Sequential(
            nn.Linear(latent_features, hidden_features), nn.ReLU(), nn.Linear(hidden_features, in_features)
        )
        self.critics = nn.ModuleList(_critic(width, critic_features) for width in (bits, latent_features))

    def binarize(self, logits: Tensor) -> Tensor:
        """+1 if sigmoid(u) is at least 1/2, or a uniform draw; the gradient is that of 2 sigmoid(u) - 1."""
        probability = torch.sigmoid(logits)
        threshold = torch.rand_like(probability) if self.stochastic else 0.5
        return straight_through(torch.where(probability >= threshold, 1.0, -1.0).to(logits), 2 * probability)

    def soft(self, logits: Tensor) -> Tensor:
        """``2 sigmoid(u) - 1``."""
        return (logits / 2).tanh()

    def objective(self, views: Sequence[HashOutput]) -> dict[str, Tensor]:
        """Terms ``reconstruction``, ``adversarial`` (weighted) and ``critic``, which only trains the critics."""
        (view,) = views
        bits = (view.code + 1) / 2
        hidden = self.head[:-1](view.features) if isinstance(self.head, nn.Sequential) else view.features
        latent = self.latent(hidden)
        latent = torch.sigmoid(latent) if self.latent_activation else latent
        averaged = torch.sigmoid(normalised(adjacency(bits, self.power)) @ self.graph(latent))
        decoded = self.decoder(averaged)

        target = self.standardize(view.features.detach())
        priors = torch.randint_like(bits, 2), torch.rand_like(averaged)
        codes = bits, averaged
        critic = adversarial = decoded.new_zeros(())
        for network, prior, code in zip(self.critics, priors, codes, strict=True):
            critic = critic + critic_loss(network(prior), network(code.detach()))
            fixed = {name: parameter.detach() for name, parameter in network.named_parameters()}
            judged = torch.func.functional_call(network, fixed, (code,))
            if self.adversary == "nonsaturating":
                adversarial = adversarial + F.softplus(-judged).mean()
            else:
                adversarial = adversarial - F.softplus(judged).mean()
        return {
            "reconstruction": reconstruction_loss(target, decoded, self.reconstruction, self.bits),
            "adversarial": self.adversarial * adversarial,
            "critic": critic,
        }


def _require_autoencoder_memory(in_features: int, hidden_features: int, latent_features: int) -> None:
    """Raises `InputError`, naming the larger width, if the graph layer and the decoder do not fit in memory."""
    widths = {"hidden_features": hidden_features, "latent_features": latent_features}
    name = max(widths, key=lambda each: widths[each])
    numbers = latent_features**2 + hidden_features * (in_features + latent_features)
    require_memory(f"hashing_model.{name}", widths[name], 4 * numbers)


def _critic(width: int, hidden: int) -> nn.Module:
    if hidden == 0:
        return nn.Linear(width, 1)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))
