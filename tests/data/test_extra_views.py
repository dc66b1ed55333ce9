import pytest
import torch
from torch.utils.data import default_collate

from brcd_lightning.data.datamodule import ViewBatch
from brcd_lightning.data.extra_views import Extras, class_positive, quarter_turns
from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.data.splits import Splits
from brcd_lightning.data.transforms import ImageTransforms, digit_images, natural_images
from conftest import make_datamodule, network_input

PLAIN = ImageTransforms(torch.nn.Identity(), torch.nn.Identity())


def make_splits(labels):
    """Image i is 4 x 4 pixels of value 10 i, but for one corner."""
    pixels = (10 * torch.arange(len(labels), dtype=torch.uint8))[:, None, None, None].repeat(1, 3, 4, 4)
    pixels[:, :, 0, 0] = 255
    everything = torch.arange(len(labels))
    source = ArrayImages(pixels, [str(i) for i in everything.tolist()], labels)
    return Splits(
        source, train=everything[2:], query=everything[:1], database=everything[1:], val_query=everything[1:2]
    )


def drawn(splits, index, count=60):
    pixels = splits.source.load(int(splits.train[index]))
    return default_collate([class_positive(splits, PLAIN, index, pixels) for _ in range(count)])


def test_positives_share_the_label_and_are_never_the_image_itself():
    splits = make_splits(torch.tensor([0, 0, 0, 1, 0, 1, 0, 0]))
    pairs = drawn(splits, 0)
    assert set(pairs.pixels[:, 0, 0, 2, 2].tolist()) == {40, 60, 70}  # the others of label 0 in the training split
    assert set(pairs.pixels[:, 1, 0, 2, 2].tolist()) == {20}
    corners = pairs.pixels[:, 0, 0][:, [0, 0, 3, 3], [0, 3, 0, 3]] == 255
    assert corners.any(dim=0).all()  # turned in all directions
    assert torch.equal(corners.sum(dim=1), torch.ones(60, dtype=torch.long))
    assert pairs.shares.min() < 0.2
    assert pairs.shares.max() > 0.8


def test_multi_hot_positives_share_a_label_and_a_lonely_image_is_its_own():
    labels = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]])
    splits = make_splits(labels)
    assert set(drawn(splits, 0).pixels[:, 0, 0, 2, 2].tolist()) == {30, 40}
    assert set(drawn(splits, 3).pixels[:, 0, 0, 2, 2].tolist()) == {50}


def test_mixing_is_a_sum_of_finished_images():
    splits = make_splits(torch.tensor([0, 0, 0, 1, 0]))
    pairs = drawn(splits, 0, 5)
    images = PLAIN.finish(pairs)
    share = pairs.shares[:, None, None, None]
    expected = (share * pairs.pixels[:, 0] + (1 - share) * pairs.pixels[:, 1]) / 255
    assert torch.allclose(images, expected, atol=1e-6)


def test_turning_before_coloring_is_turning_after(generator):
    transforms, pixels = natural_images(12), torch.randint(0, 256, (3, 20, 20), generator=generator, dtype=torch.uint8)
    views = default_collate([transforms.prepare_view(pixels) for _ in range(6)])
    for turns in range(4):
        assert torch.allclose(
            transforms.finish(quarter_turns(views, turns)), transforms.finish(views).rot90(turns, (2, 3)), atol=1e-6
        )


@pytest.mark.parametrize("rotations", ["shared", "independent"])
def test_online_batches_hold_what_is_asked_for(splits, rotations):
    data = make_datamodule(splits, extras=Extras(rotations, 3))
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())))
    assert isinstance(batch, ViewBatch)
    assert batch.rotations.shape == (16, 4, 3, 16, 16)
    assert batch.positives.shape == (16, 3, 3, 16, 16)
    same = torch.allclose(batch.rotations[:, 0].rot90(2, (2, 3)), batch.rotations[:, 2])
    assert same == (rotations == "shared")
    plain = make_datamodule(splits)
    batch = plain.on_after_batch_transfer(next(iter(plain.train_dataloader())))
    assert batch.rotations is None
    assert batch.positives is None
    assert digit_images(16).jitter is None


def test_views_come_only_where_they_are_asked_for(splits):
    data = make_datamodule(splits, extras=Extras(views=False))
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())))
    assert batch.first is None
    assert batch.second is None
    assert torch.equal(batch.anchor, network_input(splits, splits.train[batch.index]))
    with pytest.raises(ValueError, match="an augmented anchor is a view"):
        make_datamodule(splits, extras=Extras(views=False), anchor_view="aug")
