from types import SimpleNamespace

import pytest
import torch

from brcd_lightning.data.datamodule import HashingDataModule
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.data.transforms import natural_images
from brcd_lightning.errors import InputError
from conftest import make_datamodule, network_input


def test_training_batches(splits):
    data = make_datamodule(splits)
    batches = [data.on_after_batch_transfer(batch) for batch in data.train_dataloader()]
    assert len(batches) == data.steps_per_epoch() == 4
    batch = batches[0]
    assert batch.index.shape == (16,)
    assert batch.anchor.shape == batch.first.shape == batch.second.shape == (16, 3, 16, 16)
    assert not hasattr(batch, "label")
    assert torch.equal(batch.anchor, network_input(splits, splits.train[batch.index]))
    assert not torch.equal(batch.first, batch.second)


def test_augmented_anchor_is_the_first_view(splits):
    data = make_datamodule(splits, anchor_view="aug")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())))
    assert torch.equal(batch.anchor, batch.first)


@pytest.mark.slow
def test_batches_do_not_depend_on_workers(splits):
    alone, helped = (next(iter(make_datamodule(splits, num_workers=n).train_dataloader())) for n in (0, 2))
    assert torch.equal(alone.index, helped.index)
    for one, other in zip(alone[1:4], helped[1:4], strict=True):
        assert torch.equal(one, other)


def test_a_gpu_is_given_whole_images_of_which_it_makes_the_same_batches(splits):
    batches = []
    for device in ("cpu", "cuda"):
        extras = Extras(rotations="shared", positives=1)
        data = HashingDataModule(splits, natural_images(24, center_crop=False), batch_size=16, extras=extras)
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
        given = next(iter(data.train_dataloader()))
        evaluated = next(iter(data.eval_dataloader("query")))
        if device == "cuda":
            assert given.anchor.pixels.shape == given.first.pixels.shape == (16, 3, 16, 16)
            assert given.rotations.pixels.shape == (16, 4, 3, 24, 24)
            assert evaluated.image.pixels.shape[1:] == (3, 16, 16)
        batches.append([*data.on_after_batch_transfer(given), data.on_after_batch_transfer(evaluated).image])
    for one, other in zip(*batches, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 0.05
        assert (one - other).abs().float().mean() < 1e-3


def test_evaluation_covers_queries_then_database(splits):
    data = make_datamodule(splits)
    for loaders, roles in (
        (data.val_dataloader(), ("val_query", "val_database")),
        (data.test_dataloader(), ("query", "database")),
    ):
        for loader, role in zip(loaders, roles, strict=True):
            batches = list(loader)
            assert torch.equal(torch.cat([b.index for b in batches]), torch.arange(len(splits.positions(role))))
            assert torch.equal(torch.cat([b.label for b in batches]), splits.labels(role))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "data.batch_size must be a positive integer, got 0"),
        ({"batch_size": 65}, "got 65 for 64 images"),
        ({"anchor_view": "cleen"}, "Did you mean 'clean'?"),
    ],
)
def test_wrong_options_are_refused(splits, options, message):
    with pytest.raises(InputError) as error:
        make_datamodule(splits, **options)
    assert message in str(error.value)


def test_progress_is_that_of_a_trainer(splits):
    with pytest.raises(RuntimeError, match="the data module has no trainer, whose progress it could save"):
        make_datamodule(splits).state_dict()
