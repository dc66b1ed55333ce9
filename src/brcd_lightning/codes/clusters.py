"""k-means on teacher codes, nearest centroid and bit masks (paper section 4.2-4.3, Eqs. 8-9).

Shapes: n codes, b bits, k clusters.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

import faiss
import numpy as np
import torch
from annotated_types import Interval
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from brcd_lightning.codes.binary import check_codes
from brcd_lightning.errors import InputError
from brcd_lightning.options import NonNegativeInt, PositiveInt, Seed, UnitInterval, checked

KMeansLibrary = Literal["sklearn", "faiss"]
Restarts = Annotated[int, Interval(ge=1, le=10_000)]
"""Number of k-means++ initialisations."""
_MAX_STEPS = 1000


@checked()
def kmeans_codes(
    codes: Tensor,
    num_clusters: PositiveInt,
    *,
    seed: Seed = 0,
    n_init: Restarts = 30,
    method: KMeansLibrary = "sklearn",
) -> tuple[Tensor, Tensor]:
    """Clusters codes by k-means with several k-means++ initialisations, iterated until no assignment changes.

    The best initialisation (lowest inertia) is finished by exact Lloyd steps in float64, so that two identities hold on
    return: a centroid is the mean of its members (hence Eq. 8 is ``|centroid|``), and the assignment of a code is its
    `nearest_centroid`, with ties to the lowest cluster.

    Args:
        codes: (n, b) in {-1, +1}.
        num_clusters: k.
        seed: of the k-means++ draws; the same seed gives bitwise equal clusters on one machine.
        n_init: number of k-means++ initialisations.
        method: ``sklearn``, or ``faiss`` for millions of codes (all codes are used, without subsampling).

    Returns:
        centroids (k, b) float64 and assignments (n,) int64, on the device of `codes`.

    Raises:
        InputError: if there are fewer distinct codes than clusters.

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[1, 1, 1], [1, 1, -1], [-1, -1, 1], [-1, -1, -1]])
        >>> centroids, assignments = kmeans_codes(codes, 2)
        >>> bool(assignments[0] == assignments[1]), bool(assignments[0] == assignments[2])
        (True, False)
        >>> centroids[assignments[0]].tolist()
        [1.0, 1.0, 0.0]
    """
    check_codes(codes)
    if num_clusters > len(codes):
        raise InputError(
            f"num_clusters must be at most the number of training images, got {num_clusters} clusters "
            f"for {len(codes)} images; lower kd_method.num_clusters or use more images."
        )
    points = codes.detach().cpu().double()
    distinct = len(torch.unique(points, dim=0))
    if num_clusters > distinct:
        raise InputError(
            f"num_clusters must be at most the number of distinct teacher codes, got {num_clusters} clusters for "
            f"{distinct} distinct codes; the teacher may have collapsed, or lower kd_method.num_clusters."
        )
    start = _sklearn_assignments if method == "sklearn" else _faiss_assignments
    centroids, assignments = _lloyd(points, start(points, num_clusters, seed, n_init), num_clusters)
    return centroids.to(codes.device), assignments.to(codes.device)


def _sklearn_assignments(points: Tensor, num_clusters: int, seed: int, n_init: int) -> Tensor:
    model = KMeans(num_clusters, n_init=n_init, max_iter=1000, tol=0.0, random_state=seed, algorithm="lloyd")
    # One thread: with several, the order in which partial sums are added changes the last bits of a centroid.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return torch.from_numpy(model.fit(points.numpy()).labels_).long()


def _faiss_assignments(points: Tensor, num_clusters: int, seed: int, n_init: int) -> Tensor:
    rows = np.ascontiguousarray(points.numpy(), dtype=np.float32)
    # faiss would otherwise sample 256 points per cluster and start from random ones.
    model = faiss.Kmeans(
        rows.shape[1],
        num_clusters,
        niter=100,
        nredo=n_init,
        seed=seed % 2**31,  # faiss does not accept larger seeds
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
    )
    model.train(rows)
    return nearest_centroid(points, torch.from_numpy(model.centroids))


def _lloyd(points: Tensor, assignments: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Exact Lloyd steps until convergence; an empty cluster gets the code that is farthest from its centroid."""
    for _ in range(_MAX_STEPS):
        centroids = _cluster_means(points, assignments, num_clusters)
        moved = nearest_centroid(points, centroids)
        for cluster in (moved.bincount(minlength=num_clusters) == 0).nonzero().flatten().tolist():
            distances = (points - centroids[moved]).square().sum(dim=1)
            moved[distances.argmax()] = cluster
        if torch.equal(moved, assignments):
            return centroids, assignments
        assignments = moved
    raise RuntimeError(f"k-means did not settle in {_MAX_STEPS} exact steps.")


def _cluster_means(points: Tensor, assignments: Tensor, num_clusters: int) -> Tensor:
    sums = torch.zeros(num_clusters, points.shape[1], dtype=torch.float64, device=points.device)
    sums.index_add_(0, assignments, points)
    sizes = torch.bincount(assignments, minlength=num_clusters)
    return sums / sizes.clamp_min(1)[:, None]


def nearest_centroid(codes: Tensor, centroids: Tensor) -> Tensor:
    """Pseudo label of each code: the centroid with the smallest squared Euclidean distance.

    This is the rule of k-means; the paper's appendix D says Hamming distance, which would require binary centroids.

    The label of a code does not depend on the other codes of the call. Centroids are rounded to multiples of about
    b / 2^50, so distances are sums of integers, which are exact in float64 in any order. Squared distances that differ
    by no more than this rounding, about b^2 / 2^47 (3e-11 for 64 bits), count as equal. Unequal distances to the means
    of n and m codes differ by at least 1 / (n m)^2.

    Args:
        codes: (n, b) in {-1, +1}, with 0 for masked bits.
        centroids: (k, b), real.

    Returns:
        (n,) int64 in [0, k); ties go to the lowest cluster.

    Examples:
        >>> import torch
        >>> centroids = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
        >>> nearest_centroid(torch.tensor([[1, 1], [-1, -1], [1, -1]]), centroids)  # the last one ties
        tensor([0, 1, 0])
    """
    if codes.shape[1] != centroids.shape[1]:
        raise InputError(f"codes have {codes.shape[1]} bits but centroids have {centroids.shape[1]}.")
    if len(centroids) == 0:
        raise InputError("there must be at least one centroid.")
    centroids, bits = centroids.double(), codes.shape[1]
    # |c - mu|^2 = |c|^2 - 2 c.mu + |mu|^2; |c|^2 is the same for every cluster. With the largest |mu_r| = m and this
    # scale no partial sum exceeds b (m^2 + 2 m) scale < 2^52, below which float64 holds every integer.
    scale = torch.linalg.vector_norm(centroids, torch.inf).add_(1).pow_(-2).mul_(2.0**52 / bits)
    norms = centroids.square().mul_(scale).round_().sum(dim=1)  # (k,)
    distances = torch.addmm(norms, codes.double(), (centroids * scale).round_().T, alpha=-2)  # (n, k)
    # Rounding moves a distance by at most b / 2 (norms) + b (products), the difference of two by 3 b.
    ties = distances <= distances.amin(dim=1, keepdim=True).add_(4 * bits)
    return ties.byte().argmax(dim=1)  # the first of equal values


def bit_expectations(codes: Tensor, assignments: Tensor, num_clusters: int) -> Tensor:
    """Eq. (8): e_cr = |mean of bit r over cluster c|: 1 for a bit that all members share, 0 for a balanced bit.

    Args:
        codes: (n, b) in {-1, +1}.
        assignments: (n,) int64 in [0, num_clusters).
        num_clusters: k.

    Returns:
        (k, b) float64 in [0, 1]; the row of an empty cluster is 0.

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, 1]])
        >>> bit_expectations(codes, torch.tensor([0, 0, 1, 1]), 2).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    if assignments.numel() and not 0 <= int(assignments.min()) <= int(assignments.max()) < num_clusters:
        raise InputError(f"assignments must be clusters in [0, {num_clusters}).")
    return _cluster_means(codes.double(), assignments, num_clusters).abs()


@checked()
def bit_masks(
    codes: Tensor, assignments: Tensor, num_clusters: PositiveInt, delta: UnitInterval, *, min_bits: NonNegativeInt = 1
) -> Tensor:
    """Eq. (9): keeps bit r of cluster c if its expectation e_cr is at least `delta`.

    Args:
        codes: (n, b) in {-1, +1}.
        assignments: (n,) int64 in [0, num_clusters).
        num_clusters: k.
        delta: threshold in [0, 1].
        min_bits: smallest number of bits per cluster. A cluster that would keep fewer keeps the `min_bits` with the
            largest expectations (ties to the lowest bit), with a warning, since a mask row of zeros has no gradient.

    Returns:
        (k, b) mask in {0, 1}, float32 (or the floating dtype of `codes`).

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, 1]])
        >>> bit_masks(codes, torch.tensor([0, 0, 1, 1]), 2, delta=0.5).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    bits = codes.shape[1]
    if min_bits > bits:
        raise InputError(f"min_bits must be an integer in [0, {bits}], got {min_bits!r}.")
    expectations = bit_expectations(codes, assignments, num_clusters)
    masks = expectations >= delta
    poor = masks.sum(dim=1) < min_bits
    if bool(poor.any()):
        best = expectations.argsort(dim=1, descending=True, stable=True)[:, :min_bits]
        strongest = torch.zeros_like(masks).scatter_(1, best, True)
        masks = torch.where(poor[:, None], strongest, masks)
        warnings.warn(
            f"delta={delta} leaves fewer than {min_bits} bits in clusters {poor.nonzero().flatten().tolist()}; "
            "their strongest bits are kept instead.",
            stacklevel=3,  # skips the frames of the option check
        )
    return masks.to(codes.dtype if codes.is_floating_point() else torch.float32)
