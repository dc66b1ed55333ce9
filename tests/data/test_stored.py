import pytest
import torch

from brcd_lightning.data.store_builder import used_positions
from brcd_lightning.data.stored import StoredDataModule, StoredViews
from brcd_lightning.data.transforms import digit_images


def make_stored(splits, views=6, **options):
    return StoredDataModule(views=views, splits=splits, transforms=digit_images(16), **{"batch_size": 16, **options})


def test_training_batches_are_rows(splits):
    data = make_stored(splits)
    batches = list(data.train_dataloader())
    assert len(batches) == data.steps_per_epoch() == 4
    images, used = len(splits.train), used_positions(splits)
    for batch in batches:
        assert batch.index.shape == batch.anchor.shape == batch.first.shape == (16,)
        assert torch.equal(used[batch.anchor], splits.train[batch.index])
        for rows in (batch.first, batch.second):
            assert torch.equal((rows - len(used)) % images, batch.index)
        assert (batch.first != batch.second).all()


def test_augmented_anchor_is_the_first_view(splits):
    batch = next(iter(make_stored(splits, anchor_view="aug").train_dataloader()))
    assert torch.equal(batch.anchor, batch.first)


@pytest.mark.parametrize("views", [2, 6, 7])
def test_views_are_used_up_before_they_come_again(splits, views):
    dataset = StoredViews(splits, "clean", seed=0, views=views)
    seen = []
    for epoch in range(2 * (views // 2)):
        batch = dataset.__getitems__([(epoch, index) for index in range(len(dataset))])
        seen.append(torch.stack([batch.first, batch.second], dim=1))
    for cycle in (seen[: views // 2], seen[views // 2 :]):
        drawn = torch.cat(cycle, dim=1)
        assert all(len(row.unique()) == 2 * (views // 2) for row in drawn)
    assert not torch.equal(torch.cat(seen[: views // 2], 1), torch.cat(seen[views // 2 :], 1))


def test_a_single_view_serves_as_both(splits):
    batch = StoredViews(splits, "clean", seed=0, views=1).__getitems__([(9, 3), (9, 4)])
    assert torch.equal(batch.first, batch.second)


def test_the_draw_depends_on_seed_and_epoch_alone(splits):
    one, again, other = (StoredViews(splits, "clean", seed=seed, views=6) for seed in (0, 0, 1))
    keys = [(4, index) for index in range(20)]
    again.__getitems__([(0, 1)])  # an earlier epoch before
    assert torch.equal(one.__getitems__(keys).first, again.__getitems__(keys).first)
    assert not torch.equal(one.__getitems__(keys).first, other.__getitems__(keys).first)


def test_evaluation_covers_queries_then_database(splits):
    data = make_stored(splits)
    used = used_positions(splits)
    for loaders, roles in (
        (data.val_dataloader(), ("val_query", "val_database")),
        (data.test_dataloader(), ("query", "database")),
    ):
        for loader, role in zip(loaders, roles, strict=True):
            batches = list(loader)
            assert torch.equal(used[torch.cat([b.image for b in batches])], splits.positions(role))
            assert torch.equal(torch.cat([b.label for b in batches]), splits.labels(role))
            assert torch.equal(torch.cat([b.index for b in batches]), torch.arange(len(splits.positions(role))))
