"""Agreement of student and teacher in Hamming space (paper Eqs. 12, 13 and 28).

Shapes: N images, b bits, k clusters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from brcd_lightning.codes import as_signs, hamming_distance, require_tensor, sign
from brcd_lightning.codes.clusters import nearest_centroid
from brcd_lightning.errors import InputError, require_choice, require_positive_int
from brcd_lightning.metrics.lists import relevance_matrix

_BLOCK = 1 << 25  # distances held at a time


def individual_sample_distance(student_codes: Tensor, teacher_codes: Tensor) -> Tensor:
    """ISD, Eq. (12): mean Hamming distance between both codes of the same image.

    Args:
        student_codes: (N, b) in {-1, +1}, or packed (N, B) uint8.
        teacher_codes: (N, b), the same images in the same order and form.

    Returns:
        Scalar float64: 0 for identical codes, b / 2 for unrelated balanced ones, b for opposite ones.

    Examples:
        >>> import torch
        >>> individual_sample_distance(torch.tensor([[1, 1], [1, 1]]), torch.tensor([[1, 1], [-1, 1]])).item()
        0.5
    """
    return individual_sample_distances(student_codes, teacher_codes).mean()


def individual_sample_distances(student_codes: Tensor, teacher_codes: Tensor) -> Tensor:
    """Distance of each image's two codes (N,) float64, see `individual_sample_distance`.

    Examples:
        >>> import torch
        >>> individual_sample_distances(torch.tensor([[1, 1], [1, 1]]), torch.tensor([[1, 1], [-1, 1]])).tolist()
        [0.0, 1.0]
    """
    _check_pairs(student_codes, teacher_codes)
    return (as_signs(student_codes) != as_signs(teacher_codes)).sum(dim=1).double()


def neighbor_relevance_accuracy(
    student_codes: Tensor,
    teacher_codes: Tensor,
    labels: Tensor,
    k: int,
    *,
    exclude_self: bool = False,
    ties: str = "expected",
) -> Tensor:
    """NRA@K, Eq. (13): share of relevant images among the K teacher codes nearest to each student code.

    The printed equation is a sum although its text calls it a percentage: this is the sum divided by N K.

    Args:
        student_codes: (N, b) in {-1, +1}, or packed (N, B) uint8.
        teacher_codes: (N, b), the same images in the same order and form.
        labels: (N,) class indices or (N, C) multi-hot.
        k: neighbours per image, at most the candidates there are.
        exclude_self: leave out the image's own teacher code, which the literal neighbour set contains.
        ties: at the K-th place, ``expected`` counts the share of the tied group that fits, ``stable`` its first
            members in database order.

    Returns:
        Scalar float64 in [0, 1].

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[1, 1], [1, 1], [-1, -1]])
        >>> neighbor_relevance_accuracy(codes, codes, torch.tensor([0, 0, 1]), k=1).item()
        1.0
    """
    accuracies = neighbor_relevance_accuracies(
        student_codes, teacher_codes, labels, k, exclude_self=exclude_self, ties=ties
    )
    return accuracies.mean()


def neighbor_relevance_accuracies(
    student_codes: Tensor,
    teacher_codes: Tensor,
    labels: Tensor,
    k: int,
    *,
    exclude_self: bool = False,
    ties: str = "expected",
) -> Tensor:
    """Share of relevant neighbours of each image (N,) float64, see `neighbor_relevance_accuracy`.

    Examples:
        >>> import torch
        >>> codes = torch.tensor([[1, 1], [1, 1], [-1, -1]])
        >>> neighbor_relevance_accuracies(codes, codes, torch.tensor([0, 1, 1]), k=1).tolist()  # the first two tie
        [0.5, 0.5, 1.0]
    """
    _check_pairs(student_codes, teacher_codes)
    if len(labels) != len(student_codes):
        raise InputError(f"each image needs one label, got {len(student_codes)} images and {len(labels)} labels.")
    require_positive_int("k", k)
    require_choice("ties", ties, ("expected", "stable"))
    candidates = len(student_codes) - int(exclude_self)
    if k > candidates:
        raise InputError(f"k must be at most the {candidates} candidates, got {k}.")
    values = []
    for start in range(0, len(student_codes), step := max(1, _BLOCK // len(teacher_codes))):
        rows = slice(start, start + step)
        distances = hamming_distance(student_codes[rows], teacher_codes)
        relevance = relevance_matrix(labels[rows], labels)
        if exclude_self:
            own = torch.arange(len(distances), device=distances.device)
            distances[own, own + start] = 8 * student_codes.shape[1] + 1  # behind every other, packed or not
        if ties == "stable":
            order = distances.argsort(dim=1, stable=True)[:, :k]
            values.append(relevance.gather(1, order).double().sum(dim=1) / k)
            continue
        last = distances.kthvalue(k, dim=1, keepdim=True).values
        nearer, tied = distances < last, distances == last
        places = k - nearer.sum(dim=1)
        share = (tied & relevance).sum(dim=1) / tied.sum(dim=1).double()
        values.append(((nearer & relevance).sum(dim=1) + places * share) / k)
    return torch.cat(values)


def offset_positive_rate(codes: Tensor, view_codes: Tensor, centroids: Tensor, *, distance: str = "euclid") -> Tensor:
    """OPR, Eq. (28): share of images whose augmented view falls in another cluster.

    Args:
        codes: (N, b) teacher codes of the images, in {-1, +1}.
        view_codes: (N, b) teacher codes of one augmentation of each.
        centroids: (k, b) cluster centres.
        distance: ``euclid`` to the real centroids, as k-means; ``sign`` is Hamming distance to their signs.

    Returns:
        Scalar float64 in [0, 1].

    Examples:
        >>> import torch
        >>> centroids = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
        >>> codes, views = torch.tensor([[1, 1, 1], [1, 1, 1]]), torch.tensor([[1, 1, -1], [1, -1, -1]])
        >>> offset_positive_rate(codes, views, centroids).item()
        0.5
    """
    return offset_positives(codes, view_codes, centroids, distance=distance).double().mean()


def offset_positives(codes: Tensor, view_codes: Tensor, centroids: Tensor, *, distance: str = "euclid") -> Tensor:
    """True for each image whose view falls in another cluster (N,) bool, see `offset_positive_rate`.

    Examples:
        >>> import torch
        >>> centroids = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
        >>> codes, views = torch.tensor([[1, 1, 1], [1, 1, 1]]), torch.tensor([[1, 1, -1], [1, -1, -1]])
        >>> offset_positives(codes, views, centroids).tolist()
        [False, True]
    """
    _check_pairs(codes, view_codes)
    require_choice("distance", distance, ("euclid", "sign"))
    centres = centroids if distance == "euclid" else sign(centroids)
    return nearest_centroid(codes, centres) != nearest_centroid(view_codes, centres)


def _check_pairs(one: Tensor, other: Tensor) -> None:
    for codes in (one, other):
        require_tensor("codes", codes)
    if one.shape != other.shape or one.ndim != 2 or len(one) == 0:
        raise InputError(
            "both codes must have the same shape (images, bits) with at least one image, got "
            f"{tuple(one.shape)} and {tuple(other.shape)}."
        )
