import pytest
import torch
import torch.nn.functional as F

from brcd_lightning.clusters import nearest_centroid
from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.brcd import BRCD, brcd_loss
from brcd_lightning.errors import InputError
from conftest import random_codes

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


def vector_arguments(vector):
    """Positional and keyword arguments; v3 gives labels that its centroids tie on, so labels are passed on."""
    positional = [torch.tensor(vector[key], dtype=torch.float64) for key in ("s", "t", "ta")]
    keywords = {key: torch.tensor(vector[key], dtype=torch.float64) for key in ("centroids", "masks")}
    keywords |= {"assignments": torch.tensor(vector["y"]), "view_assignments": torch.tensor(vector["ya"])}
    return positional, keywords | {"alpha": vector["alpha"], "tau": vector["tau"]}


@pytest.fixture(params=["v1_hand_b4_m3", "v3_single_cluster_b4_m3"])
def vector(kd_vectors, request):
    return kd_vectors[request.param]


@pytest.mark.parametrize("row", ROWS)
def test_values_equal_the_vectors(vector, row):
    positional, keywords = vector_arguments(vector)
    assert brcd_loss(*positional, **keywords, **ROWS[row]).item() == pytest.approx(vector["expected"][row], abs=1e-9)


def test_per_sample_losses_equal_the_vectors(vector):
    positional, keywords = vector_arguments(vector)
    losses = brcd_loss(*positional, **keywords, reduction="none")
    assert losses.tolist() == pytest.approx(vector["expected"]["brcd_per_sample"], abs=1e-9)


def test_gradients_equal_the_vectors(vector):
    (student, *rest), keywords = vector_arguments(vector)
    student.requires_grad_()
    brcd_loss(student, *rest, **keywords).backward()
    assert torch.allclose(student.grad, torch.tensor(vector["grad_brcd_wrt_s"], dtype=torch.float64), atol=1e-9)


def test_labels_default_to_the_nearest_centroid(kd_vectors):
    vector = kd_vectors["v1_hand_b4_m3"]
    positional, keywords = vector_arguments(vector)
    del keywords["assignments"], keywords["view_assignments"]
    assert brcd_loss(*positional, **keywords).item() == pytest.approx(vector["expected"]["brcd"], abs=1e-9)


def test_the_printed_eq_10_is_not_what_we_compute(vector):
    positional, keywords = vector_arguments(vector)
    literal = vector["expected"]["brcd_literal_eq10_no_tau_on_self"]
    assert abs(brcd_loss(*positional, **keywords).item() - literal) > 1e-3


@pytest.fixture
def batch(generator):
    """A random batch: 12 anchors, 16 bits, 4 clusters."""
    student, teacher, view = (random_codes(12, 16, generator).double() for _ in range(3))
    centroids = torch.randn(4, 16, generator=generator, dtype=torch.float64)
    masks = (torch.rand(4, 16, generator=generator) > 0.4).double()
    return [student, teacher, view], {"centroids": centroids, "masks": masks, "alpha": 0.8, "tau": 0.3}


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


def test_equals_the_slow_loop(batch):
    positional, keywords = batch
    assert torch.allclose(
        brcd_loss(*positional, **keywords, reduction="none"), slow_brcd(*positional, **keywords), atol=1e-12
    )


def test_masks_of_ones_equal_no_mask(batch):
    positional, keywords = batch
    keywords["masks"] = torch.ones_like(keywords["masks"])
    assert torch.equal(brcd_loss(*positional, **keywords), brcd_loss(*positional, **keywords, use_mask=False))


def test_permuting_the_batch_permutes_the_losses(batch, generator):
    positional, keywords = batch
    order = torch.randperm(12, generator=generator)
    losses = brcd_loss(*positional, **keywords, reduction="none")
    permuted = brcd_loss(*(rows[order] for rows in positional), **keywords, reduction="none")
    assert torch.allclose(permuted, losses[order], atol=1e-12)


def test_flipping_or_permuting_bits_everywhere_changes_nothing(batch, generator):
    positional, keywords = batch
    loss = brcd_loss(*positional, **keywords)
    flip = random_codes(1, 16, generator).double()
    flipped = keywords | {"centroids": keywords["centroids"] * flip}
    assert torch.allclose(brcd_loss(*(rows * flip for rows in positional), **flipped), loss, atol=1e-12)
    order = torch.randperm(16, generator=generator)
    permuted = keywords | {key: keywords[key][:, order] for key in ("centroids", "masks")}
    assert torch.allclose(brcd_loss(*(rows[:, order] for rows in positional), **permuted), loss, atol=1e-12)


def test_distinct_clusters_make_filters_idle(batch):
    positional, keywords = batch
    clusters = torch.arange(12)
    keywords |= {"centroids": torch.zeros(12, 16), "masks": torch.ones(12, 16)}
    keywords |= {"assignments": clusters, "view_assignments": clusters}
    full = brcd_loss(*positional, **keywords)
    assert torch.equal(full, brcd_loss(*positional, **keywords, **ROWS["brcd_wo_np"]))


def test_a_zero_mask_row_is_finite_and_leaves_the_individual_term(batch):
    (student, teacher, view), keywords = batch
    keywords["masks"] = torch.zeros_like(keywords["masks"])
    student.requires_grad_()
    loss = brcd_loss(student, teacher, view, **keywords)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    # Every structural similarity is 0: only cos(s, t) moves the student, along each row's plane of s and t.
    reference = student.detach().clone().requires_grad_()
    F.cosine_similarity(reference, teacher).sum().backward()
    ratio = student.grad / reference.grad
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-9, equal_nan=True)


def test_masked_bits_only_feel_the_individual_term(batch):
    (student, teacher, view), keywords = batch
    keywords["masks"][:, 0] = 0
    keywords["alpha"] = 1.0
    student.requires_grad_()
    brcd_loss(student, teacher, view, **keywords).backward()
    masked = student.grad[:, 0].clone()
    student.grad = None
    phi = F.cosine_similarity(student, teacher)
    others = [rows.detach() for rows in (student, teacher, view)]
    with torch.no_grad():
        losses = brcd_loss(*others, **keywords, reduction="none")
        weight = torch.exp(phi / 0.3 - (losses + phi / 0.3))  # softmax share of the individual term
    (((weight - 1) * phi).sum() / 0.3 / 12).backward()
    assert torch.allclose(masked, student.grad[:, 0], atol=1e-12)


def test_equal_images_are_never_negatives(batch):
    positional, keywords = batch
    doubled = [torch.cat([rows, rows[:1]]) for rows in positional]
    index = torch.tensor([*range(12), 0])
    plain = {**keywords, **ROWS["eq3_plain"]}
    losses = brcd_loss(*doubled, **plain, index=index, reduction="none")
    assert torch.allclose(losses[0], brcd_loss(*positional, **plain, reduction="none")[0], atol=1e-12)
    assert losses[1] > brcd_loss(*positional, **plain, reduction="none")[1]


def test_only_the_student_gets_a_gradient(batch):
    positional, keywords = batch
    for rows in positional:
        rows.requires_grad_()
    brcd_loss(*positional, **keywords).backward()
    assert positional[0].grad.abs().sum() > 0


def test_float32_agrees_with_float64(batch):
    positional, keywords = batch
    single = brcd_loss(*(rows.float() for rows in positional), **keywords)
    assert single.item() == pytest.approx(brcd_loss(*positional, **keywords).item(), rel=1e-4)
    assert single.dtype == torch.float32


def test_module_prepares_clusters_and_returns_its_term(generator):
    method = BRCD(num_clusters=3, restarts=2, weight=2.0)
    codes = random_codes(60, 16, generator).to(torch.int8)
    kept = method.prepare(codes)
    assert kept["centroids"].shape == kept["masks"].shape == (3, 16)
    assert torch.equal(kept["expectations"], kept["centroids"].abs())
    assert kept["kept_bits"].item() == pytest.approx(kept["masks"].sum(dim=1).mean().item())
    student, view = (random_codes(8, 16, generator).float() for _ in range(2))
    output = method(KDInput(student, codes[:8].float(), torch.arange(8), view))
    expected = brcd_loss(
        student, codes[:8].float(), view, centroids=method.centroids, masks=method.masks, alpha=0.8, tau=0.3
    )
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
