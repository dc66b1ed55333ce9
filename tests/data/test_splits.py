import pytest
import torch

from brcd_lightning.data.splits import SPLITS, Splits
from brcd_lightning.errors import InputError
from data.test_splitting import draw, source


def test_fingerprint_follows_labels_and_pixels():
    relabelled, repainted = draw(), draw()
    relabelled.source.labels[relabelled.query[0]] += 1
    repainted.source.pixels[repainted.train[0]] += 1
    assert len({draw().fingerprint, relabelled.fingerprint, repainted.fingerprint}) == 3


def test_overlapping_roles_are_refused():
    with pytest.raises(InputError, match="1 images are in both query and database"):
        Splits(source(), torch.tensor([3]), torch.tensor([1]), torch.tensor([1, 2, 3]), torch.tensor([2]))


def test_roles_are_all_there():
    assert all(len(draw().positions(role)) for role in SPLITS)
