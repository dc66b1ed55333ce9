"""The same computation on two devices: losses with their gradients, clusters, metrics and searches.

The CPU in single precision is what the project is tested with. A GPU is held against it; so are, on every machine,
double precision, where rounding shows, and a device that is not there, where what is left behind on the CPU shows.
"""

import copy
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import wraps

import pytest
import torch
from torch.overrides import TorchFunctionMode

from absent_device import ABSENT, AbsentDevice
from brcd_lightning.codes import hamming_distance, pack
from brcd_lightning.codes.clusters import bit_expectations, bit_masks, kmeans_codes, nearest_centroid
from brcd_lightning.metrics import (
    bit_bias,
    bit_correlation,
    distance_histograms,
    expected_precision_at_k,
    expected_recall_at_k,
    individual_sample_distances,
    neighbor_relevance_accuracies,
    offset_positives,
    precision_recall_by_radius,
    precision_within_radius,
)
from brcd_lightning.metrics.declared import reported_values
from brcd_lightning.search import HammingIndex, nearest_codes
from conftest import clustered_codes, random_codes
from offered import BITS, IMAGES, make_batch, make_model, ready
from small_cases import trained

REFERENCE = {"device": "cpu", "dtype": torch.float32}
OTHERS = [
    pytest.param({"device": "cpu", "dtype": torch.float64}, id="float64"),
    pytest.param({"device": ABSENT.type, "dtype": torch.float32}, id="absent"),
    pytest.param({"device": "cuda", "dtype": torch.float32}, id="cuda", marks=pytest.mark.cuda),
]
"""Where a loss is computed once more."""
DEVICES = [pytest.param(ABSENT.type, id="absent"), pytest.param("cuda", id="cuda", marks=pytest.mark.cuda)]
TOLERANCE = 1e-4
"""Of losses and gradients, beside the largest value of a tensor: single precision, summed in another order."""
_DRAWS = {torch.rand, torch.randn, torch.randint, torch.multinomial, torch.rand_like, torch.randint_like}


def on_its_device(outcome):
    """The function, for which the absent device is there where it is asked for."""

    @wraps(outcome)
    def run(*args, **kwargs):
        with AbsentDevice() if ABSENT.type in (*args, *kwargs.values()) else nullcontext():
            return outcome(*args, **kwargs)

    return run


@on_its_device
def computed(function, *tensors, device):
    """What a function makes of tensors on a device, on the CPU."""
    return function(*(each.to(device) for each in tensors)).cpu()


class SameDraws(TorchFunctionMode):
    """Random numbers are those of the CPU in single precision, whatever device or precision asks: generators differ."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function not in _DRAWS:
            return function(*args, **kwargs)
        like = next((each for each in args if isinstance(each, torch.Tensor)), None)
        device = kwargs.pop("device", None if like is None else like.device)
        if kwargs.get("generator") is not None:
            kwargs["generator"] = torch.Generator().manual_seed(kwargs["generator"].initial_seed())
        drawn = function(*(each.cpu().float() if each is like else each for each in args), **kwargs)
        kept = function in (torch.rand_like, torch.randint_like)
        return drawn.to(device, like.dtype if kept else drawn.dtype)


@on_its_device
def distillation(name, device, dtype):
    """Terms of a distillation method, gradients, and what it remembers afterwards; of one that solves, its head."""
    generator = torch.Generator().manual_seed(0)
    method, batch = ready(name, generator).to(device, dtype), _moved(make_batch(generator), device, dtype)
    if method.solves:
        rows = (torch.randn(IMAGES, width, generator=generator).to(device) for width in (8, BITS))
        return {"head": method.solve(*rows).weight}
    torch.manual_seed(0)
    with SameDraws():
        terms = method(batch).terms
    if terms:
        sum(terms.values()).backward()
    inputs = {field.name: getattr(batch, field.name).grad for field in fields(batch)}
    weights = {key: value.grad for key, value in method.named_parameters()}
    gradients = {f"gradient of {key}": value for key, value in {**inputs, **weights}.items() if value is not None}
    return _detached(terms | gradients | dict(method.named_buffers()))


@on_its_device
def hashing(name, device, dtype):
    """Terms of a hashing model, its codes and gradients; of one that does not train, its fitted head."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = make_model(name, 24, BITS)
    model.setup(steps_per_epoch=4)
    model = model.to(device, dtype)
    features = torch.randn(model.num_views * IMAGES, 24, generator=generator).to(device, dtype).requires_grad_()
    if not model.trains:
        model.fit(features)
        return _detached(dict(model.named_parameters()))
    torch.manual_seed(0)
    with SameDraws():
        views = model(features, model.num_views)
        terms = model.objective(views)
    sum(terms.values()).backward()
    weights = {f"gradient of {key}": value.grad for key, value in model.named_parameters() if value.grad is not None}
    return _detached({**terms, "code": views[0].code, "gradient": features.grad, **weights})


@on_its_device
def training(case, splits, device):
    """Losses, first gradients and state of one of the small trainings, teacher, data and all."""
    with SameDraws():
        found = trained(case, splits, device=device)
    gradients = {f"gradient of {key}": value for key, value in found["gradients"].items()}
    return _detached({"losses": found["losses"], **gradients, **found["state"]})


@on_its_device
def clusters(device):
    """k-means on codes, the nearest centroids of others, expectations and masks."""
    generator = torch.Generator().manual_seed(0)
    codes, others = (clustered_codes(rows, BITS, generator, prototypes=9).to(device) for rows in (400, 300))
    centroids, assignments = kmeans_codes(codes, 7, n_init=3)
    return _detached(
        {
            "centroids": centroids,
            "assignments": assignments,
            "nearest": nearest_centroid(others, centroids),
            "expectations": bit_expectations(codes, assignments, 7),
            "masks": bit_masks(codes, assignments, 7, 0.5),
        }
    )


@on_its_device
def metrics(device):
    """Every reported metric and every other one that takes codes, of each query."""
    generator = torch.Generator().manual_seed(0)
    queries, database = (clustered_codes(rows, 24, generator).to(device) for rows in (40, 900))
    labels = [torch.randint(0, 5, (rows,), generator=generator).to(device) for rows in (40, 900)]
    values = (queries.cpu() * torch.rand(queries.shape, generator=generator)).to(device)
    moved = torch.where(torch.rand(database.shape, generator=generator) < 0.1, -1, 1).to(device) * database
    histograms = distance_histograms(queries, database, *labels)
    found = reported_values(queries, database, *labels, 100, query_values=values)
    found |= {
        "expected precision": expected_precision_at_k(histograms, 100),
        "expected recall": expected_recall_at_k(histograms, 100),
        "distances of samples": individual_sample_distances(moved, database),
        "relevance of neighbours": neighbor_relevance_accuracies(moved[:90], database[:90], labels[1][:90], 10),
        "offset positives": offset_positives(moved, database, database[:7].double()),
        "bias": bit_bias(database),
        "correlation": bit_correlation(database),
    }
    found |= {f"radius, {number}": each for number, each in enumerate(precision_within_radius(histograms))}
    curve = precision_recall_by_radius(histograms)
    return _detached(found | {f"curve, {number}": each for number, each in enumerate(curve)})


def by_sorting(queries, database, k):
    """What `nearest_codes` gives, from all distances."""
    values, positions = hamming_distance(queries, database).sort(dim=1, stable=True)
    return values[:, :k], positions[:, :k]


@on_its_device
def searches(device, nearest=nearest_codes):
    """Distances and positions of the nearest codes, packed and not, and of an index."""
    found = {}
    for bits in (8, 20, 64):
        generator = torch.Generator().manual_seed(bits)
        queries, database = (random_codes(rows, bits, generator).to(device) for rows in (9, 3000))
        index = HammingIndex.build(database)
        for k in (1, 100, 3000):
            found[f"{bits} bits, {k}"] = nearest(queries, database, k)
            found[f"{bits} bits, {k}, packed"] = nearest(pack(queries), pack(database), k)
            result = index.search(queries, k)
            found[f"{bits} bits, {k}, index"] = result.distances, result.ids
    return _detached({f"{key}, {n}": each for key, pair in found.items() for n, each in enumerate(pair)})


def difference(found, expected):
    """The largest difference of two outcomes, of each tensor beside its largest value or 1."""
    assert found.keys() == expected.keys()
    gaps = [0.0]
    for key, values in expected.items():
        assert found[key].shape == values.shape, key
        if values.numel():
            gap = (found[key] - values).abs().max() / values.abs().max().clamp_min(1)
            gaps.append(gap.nan_to_num(nan=torch.inf).item())
    return max(gaps)


def _moved(batch, device, dtype):
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    moved = {
        key: value.detach().to(device, dtype if value.is_floating_point() else None).requires_grad_(value.requires_grad)
        for key, value in values.items()
    }
    return replace(copy.copy(batch), **moved)


def _detached(tensors):
    return {key: value.detach().cpu().double().clone() for key, value in tensors.items()}
