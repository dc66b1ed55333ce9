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


def test_fingerprint_ignores_the_names_of_classes():
    named = draw()
    named.source.classes = ["cat", "dog", "emu"]
    assert named.fingerprint == draw().fingerprint


def test_queries_that_the_database_holds_too_are_named():
    def distinct():
        made = draw()
        for position, pixels in enumerate(made.source.pixels):
            pixels.fill_(position)
        return made

    assert distinct().repeated_queries == []
    splits = distinct()
    query, twin = splits.query[1], splits.database[5]
    splits.source.pixels[query] = splits.source.pixels[twin]
    assert splits.repeated_queries == [splits.source.ids[query]]


def test_overlapping_roles_are_refused():
    with pytest.raises(InputError, match="1 images are in both query and database"):
        Splits(source(), torch.tensor([3]), torch.tensor([1]), torch.tensor([1, 2, 3]), torch.tensor([2]))


def test_roles_are_all_there():
    assert all(len(draw().positions(role)) for role in SPLITS)


def test_a_training_on_the_database_leaves_validation_queries_out():
    plain = draw()
    whole = plain.trained_on_database()
    assert torch.equal(whole.train, plain.val_database)
    for role in ("query", "database", "val_query", "val_database"):
        assert torch.equal(whole.positions(role), plain.positions(role))
    assert torch.equal(whole.used, plain.used)
