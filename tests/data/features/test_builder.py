import pytest
import torch
from torch.utils.data import default_collate

from brcd_lightning.backbones import small_backbone
from brcd_lightning.data.extra_views import class_positive, quarter_turns
from brcd_lightning.data.features.builder import TransformedSplits, fill, stored_view
from brcd_lightning.data.features.datamodule import evaluation_rows
from brcd_lightning.data.features.layout import first_rows
from brcd_lightning.data.features.store import FeatureStore
from brcd_lightning.data.transforms import digit_images, natural_images
from brcd_lightning.distributed.seeding import random_stream
from brcd_lightning.errors import InputError
from conftest import network_input

VIEWS = 4
AMOUNTS = {"views": VIEWS}


def make_target(root, splits, widths=(4,), dtype="float16"):
    torch.manual_seed(sum(widths))
    backbone = small_backbone(widths, grid=2, freeze="full")
    images, train = len(splits.used), len(splits.train)
    return FeatureStore(root, {"widths": list(widths)}, images, train, backbone.num_features, dtype), backbone


@torch.no_grad()
def forward(backbones, images):
    inputs = digit_images(16).finish(images)
    return [backbone(inputs) for backbone in backbones]


def build(targets, splits, amounts=None, num_workers=0, forward=forward):
    options = {"amounts": amounts or AMOUNTS, "seed": 3, "num_workers": num_workers, "progress": False}
    return fill(targets, TransformedSplits(splits, digit_images(16)), forward=forward, **options)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_stored_features_equal_online_ones(tmp_path, splits, dtype):
    transforms = digit_images(16)
    targets = [make_target(tmp_path, splits, widths, dtype) for widths in ((4,), (4, 8))]
    build(targets, splits)
    images = len(splits.used)
    for store, backbone in targets:
        table = store.open(AMOUNTS)
        tolerance = {"rtol": 1e-3, "atol": 1e-3} if dtype == "float16" else {"rtol": 1e-5, "atol": 1e-5}
        for index in (0, 17, len(splits.train) - 1):
            pixels = splits.source.load(int(splits.train[index]))
            for view in range(VIEWS):
                prepared = default_collate([stored_view(transforms, pixels, 3, index, view)])
                (online,) = forward([backbone], prepared)
                stored = table(torch.tensor([images + view * len(splits.train) + index]))
                assert torch.allclose(stored, online, **tolerance)
        for role in ("query", "database", "train"):
            rows = evaluation_rows(splits, splits.positions(role))
            online = backbone(network_input(splits, splits.positions(role)[5:6]))
            assert torch.allclose(table(rows[5:6]), online, **tolerance)


def test_rotations_and_positives_are_stored_too(tmp_path, splits):
    transforms, (store, backbone) = digit_images(16), make_target(tmp_path, splits, dtype="float32")
    amounts = {"views": 2, "rotations": 6, "positives": 2}
    build([(store, backbone)], splits, amounts)
    table, first = store.open(amounts), first_rows(store.images, store.train, amounts)
    for index in (0, 33):
        pixels = splits.source.load(int(splits.train[index]))
        for number in range(6):  # view number // 3, turned by one to three quarters
            view = stored_view(transforms, pixels, 3, index, number // 3)
            (online,) = forward([backbone], default_collate([quarter_turns(view, number % 3 + 1)]))
            stored = table(torch.tensor([first["rotations"] + number * store.train + index]))
            assert torch.allclose(stored, online, atol=1e-5)
        for number in range(2):
            with random_stream(3, index, number, 1):
                positive = class_positive(splits, transforms, index, pixels)
            (online,) = forward([backbone], default_collate([positive]))
            stored = table(torch.tensor([first["positives"] + number * store.train + index]))
            assert torch.allclose(stored, online, atol=1e-5)


def test_features_of_images_that_the_device_crops_are_the_same(tmp_path, splits):
    transforms, found = natural_images(16, center_crop=False), []
    for device in ("cpu", "cuda"):
        store, backbone = make_target(tmp_path / device, splits, dtype="float32")
        sizes = set()

        @torch.no_grad()
        def forward(backbones, images, sizes=sizes):
            sizes.add((type(images).__name__, images[0].shape[-1], getattr(images, "boxes", images[0]).shape[-1] > 0))
            return [backbone(transforms.finish(images)) for backbone in backbones]

        images = TransformedSplits(splits, transforms).for_device(torch.device(device))
        amounts = {"views": 2, "rotations": 3, "positives": 1}
        options = {"seed": 3, "num_workers": 0, "progress": False}
        fill([(store, backbone)], images, amounts=amounts, forward=forward, **options)
        assert ("PreparedImages", 16, True) in sizes or device == "cpu"
        found.append(store.open(amounts)(torch.arange(store.images + 6 * store.train)))
    assert (found[0] - found[1]).abs().max() < 0.1
    assert (found[0] - found[1]).abs().mean() < 0.005


def test_views_differ_and_do_not_depend_on_who_draws_them(tmp_path, splits):
    one = [make_target(tmp_path / "one", splits)]
    build(one, splits)
    helped = [make_target(tmp_path / "helped", splits)]
    build(helped, splits, num_workers=2)
    rows = torch.arange(one[0][0].images, one[0][0].images + VIEWS * len(splits.train))
    features = one[0][0].open(AMOUNTS)(rows)
    assert torch.equal(features, helped[0][0].open(AMOUNTS)(rows))
    assert len(features.unique(dim=0)) == len(rows)


def test_only_what_is_missing_is_computed(tmp_path, splits):
    seen = []

    def counting(backbones, images):
        seen.extend((backbone, len(images.pixels)) for backbone in backbones)
        return forward(backbones, images)

    one, other = make_target(tmp_path, splits, (4,)), make_target(tmp_path, splits, (8,))
    build([one], splits, {"views": 2})
    build([one, other], splits, forward=counting)
    assert sum(rows for backbone, rows in seen if backbone is one[1]) == 2 * len(splits.train)
    assert sum(rows for backbone, rows in seen if backbone is other[1]) == one[0].images + VIEWS * len(splits.train)
    seen.clear()
    build([one, other], splits, forward=counting)
    assert not seen


def test_the_same_backbone_twice_is_computed_once(tmp_path, splits):
    target = make_target(tmp_path, splits)
    build([target, target], splits)
    assert not target[0].missing(AMOUNTS)


def test_an_unreadable_image_is_one_line_also_from_a_worker(tmp_path, splits, monkeypatch):
    def broken(self, position):
        raise InputError("image 7.jpg cannot be decoded.")

    monkeypatch.setattr(type(splits.source), "load", broken)
    with pytest.raises(InputError) as error:
        build([make_target(tmp_path, splits)], splits, num_workers=1)
    assert str(error.value) == "image 7.jpg cannot be decoded."


def test_a_complete_store_is_not_locked(tmp_path, splits, monkeypatch):
    target = make_target(tmp_path, splits)
    build([target], splits)
    monkeypatch.setattr(FeatureStore, "lock", lambda self: pytest.fail("a read-only store cannot be locked"))
    build([target], splits)
