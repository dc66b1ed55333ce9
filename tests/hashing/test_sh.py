import math

import torch

from brcd_lightning.hashing.sh import SH, smallest_modes
from hashing.test_closed_form import features_of


def slow_modes(extents, count):
    """Rows of the modes of all sides but one, which is k, as Weiss's program lays them out, sorted by eigenvalue."""
    most = [math.ceil((count + 1) * extent / max(extents)) for extent in extents]
    found = []
    for side, limit in enumerate(most):
        for k in range(1, limit):
            found.append(((k * math.pi / extents[side]) ** 2, side, k))
    found.sort(key=lambda entry: entry[0])
    return [(side, k) for _, side, k in found[:count]]


def test_modes_are_those_of_a_slow_loop(generator):
    for count in (1, 5, 16):
        extents = torch.rand(count, dtype=torch.float64, generator=generator) + 0.05
        side, mode = smallest_modes(extents, count)
        assert list(zip(side.tolist(), mode.tolist(), strict=True)) == slow_modes(extents.tolist(), count)


def test_codes_are_those_of_a_slow_loop(generator):
    features = features_of(generator, n=60, d=12).double()
    model = SH(12, 8).double()
    model.fit(features)
    centred = features - features.mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    directions = [vectors[:, -1 - place] for place in range(8)]
    directions = [v if v[v.abs().argmax()] > 0 else -v for v in directions]
    projected = [[float(row @ v) for row in centred] for v in directions]
    extents = [max(column) - min(column) for column in projected]
    logits = model.head(features)
    for bit, (side, k) in enumerate(slow_modes(extents, 8)):
        low = min(projected[side])
        for image in range(60):
            expected = math.sin(math.pi / 2 + k * math.pi * (projected[side][image] - low) / extents[side])
            assert abs(logits[image, bit].item() - expected) < 1e-7


def test_a_long_side_gives_several_bits(generator):
    features = torch.randn(300, 4, generator=generator) * torch.tensor([10.0, 1, 1, 1])
    side, mode = smallest_modes(features.amax(dim=0) - features.amin(dim=0), 4)
    assert side.tolist() == [0] * 4
    assert mode.tolist() == [1, 2, 3, 4]
    model = SH(4, 4)
    model.fit(features)
    assert model.head(features).abs().max() <= 1
