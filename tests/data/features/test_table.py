"""Features by row, in memory and mapped."""

import numpy as np
import pytest
import torch

from both_devices import DEVICES, computed
from brcd_lightning.data.features import table
from brcd_lightning.data.features.table import FeatureTable
from brcd_lightning.errors import InputError

IMAGES, TRAIN, WIDTH = 7, 4, 3


def make_table(rows_of_parts, dtype="float32"):
    """Feature 0 of each row is its place in the parts: of an image, or 100 + 10 * image + number."""
    evaluation = np.arange(IMAGES)[:, None]
    parts, first = [evaluation], 0
    for rows in rows_of_parts:
        parts.append(100 + 10 * np.arange(TRAIN)[:, None] + np.arange(first, first + rows))
        first += rows
    arrays = [np.repeat(part[:, :, None], WIDTH, axis=2).astype(dtype) for part in parts]
    return FeatureTable(arrays, IMAGES, TRAIN)


@pytest.mark.parametrize("in_memory", [0, 1 << 30])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_views_follow_the_images_one_view_after_the_other(dtype, in_memory, monkeypatch):
    monkeypatch.setattr(table, "IN_MEMORY", in_memory)
    features = make_table([1, 1, 2], dtype)
    assert features.rows == IMAGES + 4 * TRAIN
    expected = [*range(IMAGES), *(100 + 10 * image + view for view in range(4) for image in range(TRAIN))]
    found = features(torch.arange(features.rows))
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.tensor(expected)[:, None].expand(-1, WIDTH).float())
    assert torch.equal(features(torch.tensor([9, 0, 9])), found[[9, 0, 9]])


def test_views_that_were_not_opened_are_refused():
    with pytest.raises(InputError, match="opened without views"):
        make_table([])(torch.tensor([IMAGES]))


@pytest.mark.parametrize("in_memory", [0, 1 << 30])
@pytest.mark.parametrize("device", DEVICES)
def test_a_gpu_looks_up_the_same(device, in_memory, monkeypatch):
    monkeypatch.setattr(table, "IN_MEMORY", in_memory)
    rows = torch.tensor([9, 0, 22, 9])
    assert torch.equal(computed(make_table([1, 1, 2], "float16"), rows, device=device), make_table([1, 1, 2])(rows))
