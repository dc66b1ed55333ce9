import pytest
import torch

from brcd_lightning.codes.clusters import nearest_centroid
from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.brcd import BRCDOptions
from brcd_lightning.distillation.brcd_release import ReleasedBRCD, released_brcd_loss, released_clusters
from brcd_lightning.errors import InputError
from conftest import random_codes

FLAGS = {
    "released_rp_true_masks": {},
    "released_p": {"use_mask": False},
    "released_r_true_masks": {"drop_false_negatives": False, "dynamic_alpha": False},
    "released_nr_true_masks": {"dynamic_alpha": False},
}


def loss_of(vector, masks, **switches):
    """The released loss of a vector, whose anchors' labels are given: in v3 its centroids tie."""
    student, teacher, view, centroids = (
        torch.tensor(vector[k], dtype=torch.float64) for k in ("s", "t", "ta", "centroids")
    )
    options = BRCDOptions(alpha=vector["alpha"], tau=vector["tau"], **switches)
    clusters = released_clusters(torch.tensor(vector["y"]), view, centroids, masks, options)
    return released_brcd_loss(student, teacher, view, clusters, options)


@pytest.fixture(params=["v1_hand_b4_m3", "v3_single_cluster_b4_m3"])
def vector(kd_vectors, request):
    return kd_vectors[request.param]


@pytest.mark.parametrize("name", FLAGS)
def test_values_equal_the_vectors(vector, name):
    value = loss_of(vector, torch.tensor(vector["masks"], dtype=torch.float64), **FLAGS[name]).item()
    assert value == pytest.approx(vector["expected"][name], abs=1e-9)


def test_zero_masks_equal_the_vectors(vector):
    value = loss_of(vector, torch.zeros_like(torch.tensor(vector["masks"], dtype=torch.float64))).item()
    assert value == pytest.approx(vector["expected"]["released_rp_zero_masks"], abs=1e-9)


def test_zero_masks_leave_the_individual_term_alone(generator):
    """The closed form: log(1 + c_i exp(-a_i cos(s_i, t_i) / tau)), nothing structural."""
    student = torch.randn(9, 16, dtype=torch.float64, generator=generator)
    teacher, view = (random_codes(9, 16, generator).double() for _ in range(2))
    centroids = torch.randn(3, 16, dtype=torch.float64, generator=generator)
    y = torch.tensor([0, 1, 2] * 3)
    options = BRCDOptions(alpha=0.8, tau=0.3)
    clusters = released_clusters(y, view, centroids, torch.zeros(3, 16), options)
    value = released_brcd_loss(student, teacher, view, clusters, options)
    nearest = centroids.square().sum(dim=1).argmin()
    count = (y[None] != y[:, None]).sum(dim=1) + 8 * (y != nearest)
    alphas = torch.ones(9, dtype=torch.float64).masked_fill(y == nearest, 0.8)
    cosine = torch.nn.functional.cosine_similarity(student, teacher)
    expected = (1 + count * torch.exp(-alphas * cosine / 0.3)).log().mean()
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)


def test_gradient_is_exact(generator):
    student = torch.randn(5, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher, view = (random_codes(5, 8, generator).double() for _ in range(2))
    options = BRCDOptions(alpha=0.8, tau=0.3)
    centroids, masks = torch.randn(2, 8, generator=generator).double(), torch.ones(2, 8)
    clusters = released_clusters(nearest_centroid(teacher, centroids), view, centroids, masks, options)
    assert torch.autograd.gradcheck(lambda s: released_brcd_loss(s, teacher, view, clusters, options), student)


@pytest.mark.parametrize(("source", "kept"), [("zeros", False), ("expectations", True)])
def test_the_source_of_the_masks(generator, source, kept):
    method = ReleasedBRCD(mask_source=source, num_clusters=3, n_init=2)
    codes = random_codes(40, 8, generator)
    assert method.prepare(codes)["masks"].any() == kept
    batch = KDInput(codes[:4].float().requires_grad_(), codes[:4].float(), torch.arange(4), codes[4:8].float())
    assert bool(method(batch).terms["brcd"].isfinite())


def test_a_term_of_the_paper_is_refused():
    with pytest.raises(InputError, match="offset_in_denominator must be false"):
        ReleasedBRCD(offset_in_denominator=True)
