import pytest
import torch

from brcd_lightning.data.fake import fake
from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.data.splitting import PerClass, draw_splits
from brcd_lightning.errors import InputError


def source(count=30, classes=3):
    return ArrayImages(
        torch.zeros(count, 3, 4, 4, dtype=torch.uint8), [f"i/{i}" for i in range(count)], torch.arange(count) % classes
    )


def draw(seed=0, **options):
    everything = torch.arange(30)
    counts = PerClass(**{"train": 4, "query": 2, "val_query": 1, **options})
    return draw_splits(source(), query_pool=everything, database_pool=everything, per_class=counts, seed=seed)


def test_counts_per_class_and_disjoint_roles():
    splits = draw()
    assert splits.sizes() == {"train": 12, "query": 6, "database": 24, "val_query": 3, "val_database": 21}
    for role, count in (("train", 4), ("query", 2), ("val_query", 1)):
        assert splits.labels(role).bincount().tolist() == [count] * 3
    assert not set(splits.query.tolist()) & set(splits.database.tolist())
    assert set(splits.train.tolist()) <= set(splits.database.tolist())
    assert set(splits.val_query.tolist()) <= set(splits.database.tolist()) - set(splits.train.tolist())
    assert set(splits.val_database.tolist()) == set(splits.database.tolist()) - set(splits.val_query.tolist())


def test_the_seed_alone_decides():
    assert draw(seed=1).fingerprint == draw(seed=1).fingerprint != draw(seed=2).fingerprint


def test_database_is_not_sorted_by_class():
    labels = fake().labels("database")
    assert (labels[1:] < labels[:-1]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": 11}, "class 0 has 10 images left for 11 queries"),
        ({"train": 8}, "class 0 has 8 images left for 9 training images and validation queries"),
        ({"val_query": 0}, "dataset.val_query_per_class must be a positive integer, got 0"),
        ({"train": "abc"}, "dataset.train_per_class must be a positive integer, got 'abc'"),
        ({"seed": -1}, "dataset.seed must be an integer of at least 0, got -1"),
    ],
)
def test_impossible_counts_are_refused(options, message):
    with pytest.raises(InputError) as error:
        draw(**options)
    assert message in str(error.value)
