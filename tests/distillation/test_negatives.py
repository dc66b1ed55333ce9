import pytest
import torch

from brcd_lightning.distillation.negatives import Negatives
from brcd_lightning.errors import InputError
from conftest import random_codes


def make_negatives(kind="uniform", count=9, images=30, seed=0, **given):
    negatives = Negatives(kind, count, num_clusters=3, seed=seed)
    negatives.setup(images)
    negatives.prepare(given.get("codes"), given.get("labels"))
    return negatives


def test_uniform_negatives_are_all_others_and_never_the_image_itself():
    negatives, index = make_negatives(count=29), torch.arange(30)
    rows = torch.cat([negatives(index)[:, 1:] for _ in range(40)], dim=1)
    assert not (rows == index[:, None]).any()
    assert all(len(row.unique()) == 29 for row in rows)
    shares = rows.flatten().bincount(minlength=30) / rows.numel()
    assert shares.sub(1 / 30).abs().max() < 0.006


def test_the_own_row_comes_first():
    index = torch.tensor([4, 0, 29])
    assert torch.equal(make_negatives()(index)[:, 0], index)


def test_label_negatives_share_no_label(generator):
    labels = torch.arange(30) % 3
    rows = make_negatives("label", labels=labels)(torch.arange(30))[:, 1:]
    assert not (labels[rows] == labels[:, None]).any()
    many = (torch.rand(30, 5, generator=generator) < 0.3).long()
    rows = make_negatives("label", labels=many)(torch.arange(30))[:, 1:]
    own = many[:, None, :].bool() & many[rows].bool()
    possible = ~(many[:, None].bool() & many[None].bool()).any(dim=2)
    assert not own.any(dim=2)[possible.any(dim=1)].any()


def test_an_empty_pool_falls_back_to_all_others():
    labels = torch.zeros(30, dtype=torch.long)
    rows = make_negatives("label", labels=labels)(torch.arange(30))[:, 1:]
    assert not (rows == torch.arange(30)[:, None]).any()


def test_pseudo_labels_are_the_clusters_of_the_teacher(generator):
    codes = random_codes(3, 16, generator).repeat_interleave(10, dim=0)
    negatives = make_negatives("pseudo_label", codes=codes)
    rows = negatives(torch.arange(30))[:, 1:]
    assert not (rows // 10 == torch.arange(30)[:, None] // 10).any()
    assert not negatives.needs


def test_draws_go_on_where_a_saved_state_stopped():
    index = torch.arange(8)
    whole, stopped = make_negatives(), make_negatives()
    first = [whole(index) for _ in range(3)]
    stopped(index), stopped(index)
    resumed = make_negatives()
    resumed.load_state_dict(stopped.state_dict())
    assert torch.equal(resumed(index), first[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(make_negatives(seed=1)(index), first[0])


def test_more_negatives_than_images_are_refused():
    with pytest.raises(InputError, match="num_negatives must be below the number of training images, got 30 for 30"):
        Negatives("uniform", 30, 3, 0).setup(30)
