import pytest
import torch
import torch.nn.functional as F

from brcd_lightning.codes.clusters import nearest_centroid
from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.brcd import BRCD, BatchClusters, BRCDOptions, brcd_loss
from brcd_lightning.errors import InputError
from conftest import random_codes
from offered import sees_a_signed_permutation

ROWS = {
    "brcd": {},
    "brcd_wo_bm": {"use_mask": False},
    "brcd_wo_np": {"drop_false_negatives": False, "dynamic_alpha": False},
    "brcd_wo_p": {"dynamic_alpha": False},
    "brcd_wo_n": {"drop_false_negatives": False},
    "eq3_plain": {"use_mask": False, "drop_false_negatives": False, "dynamic_alpha": False},
    "brcd_sum_reduction": {"reduction": "sum"},
    "brcd_offset_dropped_from_denominator": {"offset_in_denominator": False},
}


def loss_of(codes, clusters, index=None, reduction="mean", **options):
    return brcd_loss(*codes, clusters, BRCDOptions(**options), index, reduction)


def arguments_of(vector):
    """Codes, clusters and options; v3 gives labels that its centroids tie on, so labels are passed on."""
    codes = [torch.tensor(vector[key], dtype=torch.float64) for key in ("s", "t", "ta")]
    masks = torch.tensor(vector["masks"], dtype=torch.float64)
    clusters = BatchClusters(torch.tensor(vector["y"]), torch.tensor(vector["ya"]), masks)
    return codes, clusters, {"alpha": vector["alpha"], "tau": vector["tau"]}


@pytest.fixture(params=["v1_hand_b4_m3", "v3_single_cluster_b4_m3"])
def vector(kd_vectors, request):
    return kd_vectors[request.param]


@pytest.mark.parametrize("row", ROWS)
def test_values_equal_the_vectors(vector, row):
    codes, clusters, options = arguments_of(vector)
    value = loss_of(codes, clusters, **options, **ROWS[row]).item()
    assert value == pytest.approx(vector["expected"][row], abs=1e-9)


def test_per_sample_losses_equal_the_vectors(vector):
    codes, clusters, options = arguments_of(vector)
    losses = loss_of(codes, clusters, reduction="none", **options)
    assert losses.tolist() == pytest.approx(vector["expected"]["brcd_per_sample"], abs=1e-9)


def test_gradients_equal_the_vectors(vector):
    codes, clusters, options = arguments_of(vector)
    codes[0].requires_grad_()
    loss_of(codes, clusters, **options).backward()
    assert torch.allclose(codes[0].grad, torch.tensor(vector["grad_brcd_wrt_s"], dtype=torch.float64), atol=1e-9)


def test_labels_of_the_nearest_centroid_equal_the_vectors(kd_vectors):
    vector = kd_vectors["v1_hand_b4_m3"]
    codes, given, options = arguments_of(vector)
    centroids = torch.tensor(vector["centroids"], dtype=torch.float64)
    clusters = BatchClusters.nearest(*codes[1:], centroids, given.masks)
    assert clusters.anchors.tolist() == vector["y"]
    assert clusters.views.tolist() == vector["ya"]
    assert loss_of(codes, clusters, **options).item() == pytest.approx(vector["expected"]["brcd"], abs=1e-9)


def test_the_printed_eq_10_is_not_what_we_compute(vector):
    codes, clusters, options = arguments_of(vector)
    literal = vector["expected"]["brcd_literal_eq10_no_tau_on_self"]
    assert abs(loss_of(codes, clusters, **options).item() - literal) > 1e-3


OPTIONS = {"alpha": 0.8, "tau": 0.3}


@pytest.fixture
def batch(generator):
    """A random batch: 12 anchors, 16 bits, 4 clusters."""
    student, teacher, view = (random_codes(12, 16, generator).double() for _ in range(3))
    centroids = torch.randn(4, 16, generator=generator, dtype=torch.float64)
    masks = (torch.rand(4, 16, generator=generator) > 0.4).double()
    return [student, teacher, view], centroids, masks


@pytest.fixture
def clustered(batch):
    """Codes and clusters of the batch."""
    codes, centroids, masks = batch
    return codes, BatchClusters.nearest(*codes[1:], centroids, masks)


def slow_brcd(student, teacher, view, *, centroids, masks, alpha, tau):
    """Eqs. (5), (6), (10), (11) one pair at a time."""
    y, y_view = nearest_centroid(teacher, centroids), nearest_centroid(view, centroids)
    cos = lambda a, b: F.cosine_similarity(a, b, dim=0)  # noqa: E731
    losses = []
    for i in range(len(student)):
        a = alpha if y[i] == y_view[i] else 1.0
        phi = cos(student[i], teacher[i])
        own = cos(masks[y[i]] * student[i], masks[y_view[i]] * view[i])
        terms = [phi / tau, own / tau]
        for k in range(len(student)):
            if k != i and y[k] != y[i]:
                terms.append(cos(masks[y[i]] * student[i], masks[y[k]] * teacher[k]) / tau)
            if k != i and y_view[k] != y[i]:
                terms.append(cos(masks[y[i]] * student[i], masks[y_view[k]] * view[k]) / tau)
        losses.append(torch.stack(terms).logsumexp(0) - (a * phi + (1 - a) * own) / tau)
    return torch.stack(losses)


def test_equals_the_slow_loop(batch, clustered):
    codes, centroids, masks = batch
    expected = slow_brcd(*codes, centroids=centroids, masks=masks, **OPTIONS)
    assert torch.allclose(loss_of(*clustered, reduction="none", **OPTIONS), expected, atol=1e-12)


def test_masks_of_ones_equal_no_mask(clustered):
    codes, clusters = clustered
    clusters = clusters._replace(masks=torch.ones_like(clusters.masks))
    assert torch.equal(loss_of(codes, clusters, **OPTIONS), loss_of(codes, clusters, use_mask=False, **OPTIONS))


def test_permuting_the_batch_permutes_the_losses(batch, clustered, generator):
    codes, centroids, masks = batch
    order = torch.randperm(12, generator=generator)
    losses = loss_of(*clustered, reduction="none", **OPTIONS)
    codes = [rows[order] for rows in codes]
    clusters = BatchClusters.nearest(*codes[1:], centroids, masks)
    assert torch.allclose(loss_of(codes, clusters, reduction="none", **OPTIONS), losses[order], atol=1e-12)


def test_flipping_or_permuting_bits_everywhere_changes_nothing(batch, clustered, generator):
    codes, centroids, masks = batch
    loss = loss_of(*clustered, **OPTIONS)
    flip = random_codes(1, 16, generator).double()
    flipped = [rows * flip for rows in codes]
    clusters = BatchClusters.nearest(*flipped[1:], centroids * flip, masks)
    assert torch.allclose(loss_of(flipped, clusters, **OPTIONS), loss, atol=1e-12)
    order = torch.randperm(16, generator=generator)
    permuted = [rows[:, order] for rows in codes]
    clusters = BatchClusters.nearest(*permuted[1:], centroids[:, order], masks[:, order])
    assert torch.allclose(loss_of(permuted, clusters, **OPTIONS), loss, atol=1e-12)


def test_distinct_clusters_make_filters_idle(batch):
    codes = batch[0]
    clusters = BatchClusters(torch.arange(12), torch.arange(12), torch.ones(12, 16))
    full = loss_of(codes, clusters, **OPTIONS)
    assert torch.equal(full, loss_of(codes, clusters, **OPTIONS, **ROWS["brcd_wo_np"]))


def test_a_zero_mask_row_is_finite_and_leaves_the_individual_term(clustered):
    (student, teacher, view), clusters = clustered
    student.requires_grad_()
    clusters = clusters._replace(masks=torch.zeros_like(clusters.masks))
    loss = loss_of((student, teacher, view), clusters, **OPTIONS)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    # Every structural similarity is 0: only cos(s, t) moves the student, along each row's plane of s and t.
    reference = student.detach().clone().requires_grad_()
    F.cosine_similarity(reference, teacher).sum().backward()
    ratio = student.grad / reference.grad
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-9, equal_nan=True)


def test_masked_bits_only_feel_the_individual_term(clustered):
    (student, teacher, view), clusters = clustered
    clusters.masks[:, 0] = 0
    student.requires_grad_()
    loss_of((student, teacher, view), clusters, alpha=1.0, tau=0.3).backward()
    masked = student.grad[:, 0].clone()
    student.grad = None
    phi = F.cosine_similarity(student, teacher)
    others = [rows.detach() for rows in (student, teacher, view)]
    with torch.no_grad():
        losses = loss_of(others, clusters, alpha=1.0, tau=0.3, reduction="none")
        weight = torch.exp(phi / 0.3 - (losses + phi / 0.3))  # softmax share of the individual term
    (((weight - 1) * phi).sum() / 0.3 / 12).backward()
    assert torch.allclose(masked, student.grad[:, 0], atol=1e-12)


def test_equal_images_are_never_negatives(batch, clustered):
    codes, centroids, masks = batch
    doubled = [torch.cat([rows, rows[:1]]) for rows in codes]
    clusters = BatchClusters.nearest(*doubled[1:], centroids, masks)
    index = torch.tensor([*range(12), 0])
    plain = {**OPTIONS, **ROWS["eq3_plain"], "reduction": "none"}
    losses, single = loss_of(doubled, clusters, index, **plain), loss_of(*clustered, **plain)
    assert torch.allclose(losses[0], single[0], atol=1e-12)
    assert losses[1] > single[1]


def test_only_the_student_gets_a_gradient(clustered):
    codes, clusters = clustered
    for rows in codes:
        rows.requires_grad_()
    loss_of(codes, clusters, **OPTIONS).backward()
    assert codes[0].grad.abs().sum() > 0


def test_float32_agrees_with_float64(clustered):
    codes, clusters = clustered
    single = loss_of([rows.float() for rows in codes], clusters, **OPTIONS)
    assert single.item() == pytest.approx(loss_of(codes, clusters, **OPTIONS).item(), rel=1e-4)
    assert single.dtype == torch.float32


def test_module_prepares_clusters_and_returns_its_term(generator):
    method = BRCD(num_clusters=3, n_init=2, weight=2.0)
    codes = random_codes(60, 16, generator).to(torch.int8)
    kept = method.prepare(codes)
    assert kept["centroids"].shape == kept["masks"].shape == (3, 16)
    assert torch.equal(kept["expectations"], kept["centroids"].abs())
    assert kept["kept_bits"].item() == pytest.approx(kept["masks"].sum(dim=1).mean().item())
    student, view = (random_codes(8, 16, generator).float() for _ in range(2))
    output = method(KDInput(student, codes[:8].float(), torch.arange(8), view))
    clusters = BatchClusters.nearest(codes[:8], view, method.centroids, method.masks)
    expected = loss_of([student, codes[:8].float(), view], clusters, alpha=0.8, tau=0.3)
    assert output.terms["brcd"].item() == pytest.approx(2 * expected.item(), rel=1e-6)
    assert set(output.diagnostics) == {"agreement", "agreement_view", "offset_positives"}
    assert not method.state_dict()  # recomputed at fit start, never in a checkpoint


def test_options_are_held_against_the_data_before_training():
    with pytest.raises(InputError, match="got 10 clusters for 9 images"):
        BRCD().setup(9, 16, 1)
    with pytest.raises(InputError, match="min_bits must be at most bits=16, got 17"):
        BRCD(min_bits=17).setup(100, 16, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "kd_method.alpha must be in [0, 1], got 1.5"),
        ({"delta": -0.1}, "kd_method.delta must be in [0, 1], got -0.1"),
        ({"tau": 0}, "kd_method.tau must be a positive number, got 0"),
        ({"num_clusters": 0}, "kd_method.num_clusters must be a positive integer, got 0"),
        ({"weight": -1}, "kd_method.weight must be a number of at least 0, got -1"),
        ({"weight": "abc"}, "kd_method.weight must be a number of at least 0, got 'abc'"),
        ({"use_mask": "no"}, "kd_method.use_mask must be true or false, got 'no'"),
        ({"kmeans": "scikit"}, "kd_method.kmeans must be one of sklearn, faiss"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError) as error:
        BRCD(**options)
    assert message in str(error.value)


def test_options_of_the_loss_are_checked_once_and_do_not_change():
    with pytest.raises(InputError, match=r"kd_method.alpha must be in \[0, 1\], got 2"):
        BRCDOptions(alpha=2)
    with pytest.raises(AttributeError):
        BRCDOptions().alpha = 2
    assert BRCD(alpha=0.6, dynamic_alpha=False).options == BRCDOptions(alpha=0.6, dynamic_alpha=False)


def test_a_wrong_reduction_is_refused(clustered):
    with pytest.raises(InputError, match="reduction must be one of mean, sum, none, got 'mode'"):
        loss_of(*clustered, reduction="mode")


def test_the_hamming_spaces_are_aligned_bit_by_bit(generator):
    assert sees_a_signed_permutation("brcd", generator)
