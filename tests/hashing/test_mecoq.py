import math

import pytest
import torch
import torch.nn.functional as F

from brcd_lightning.errors import InputError
from brcd_lightning.hashing.cibhash import nt_xent
from brcd_lightning.hashing.mecoq import MeCoQ, binary_entropy, debiased_contrast

CASES = [
    ("plain_infonce", 0.0, False, False),
    ("debiased", 0.1, False, False),
    ("debiased_queue", 0.1, True, False),
    ("debiased_queue_released_counts", 0.1, True, True),
]


@pytest.mark.parametrize("tau", [0.35, 1.0])
@pytest.mark.parametrize(("name", "rho", "queued", "released"), CASES)
def test_losses_equal_the_vectors(hash_vectors, name, rho, queued, released, tau):
    v = hash_vectors["mecoq"]
    first, second, queue = (
        torch.tensor(v[key], dtype=torch.float64) for key in ("soft_codes_view1", "soft_codes_view2", "queue")
    )
    losses, bound = debiased_contrast(first, second, tau, rho, queue if queued else None, released=released)
    expected = v["losses"][f"{name}_tau{tau}"]
    assert losses.tolist() == pytest.approx(expected["per_anchor"], abs=1e-9)
    assert losses.mean().item() == pytest.approx(expected["loss"], abs=1e-9)
    if name == "debiased":
        assert bool(bound.all()) == (tau == 0.35)


def direct_contrast(first, second, tau, rho, queue, released):
    """The formula as it is written, in plain exponentials."""
    rows = F.normalize(torch.cat([first, second]), dim=1)
    exponentials = (rows @ rows.T / tau).exp()
    images = len(first)
    positive = torch.cat([exponentials.diagonal(images), exponentials.diagonal(-images)])
    negatives = exponentials.sum(dim=1) - exponentials.diagonal() - positive
    count = 2 * images - 2
    if queue is not None:
        negatives = negatives + (rows @ (queue if released else F.normalize(queue, dim=1)).T / tau).exp().sum(dim=1)
        count += 0 if released else len(queue)
    floor = math.exp(-count / tau) if released else count * math.exp(-1 / tau)
    debiased = (negatives - count * rho * positive) / (1 - rho)
    return -(positive / (positive + debiased.clamp_min(floor))).log(), debiased < floor


@pytest.mark.parametrize("tau", [0.1, 0.2, 0.35, 1.0])
@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("queued", [False, True])
def test_losses_and_gradients_equal_the_formula(tau, rho, released, queued, generator):
    codes = torch.randn(14, 12, dtype=torch.float64, generator=generator, requires_grad=True)
    queue = torch.rand(5, 12, dtype=torch.float64, generator=generator) if queued else None
    second = codes[:7] + 0.8 * codes[7:]
    losses, bound = debiased_contrast(codes[:7], second, tau, rho, queue, released=released)
    expected, bound_too = direct_contrast(codes[:7], second, tau, rho, queue, released)
    assert torch.allclose(losses, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(bound, bound_too)
    gradients = [torch.autograd.grad(value.mean(), codes, retain_graph=True)[0] for value in (losses, expected)]
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tau", [0.001, 0.011])
@pytest.mark.parametrize("rho", [0.0, 0.1])
@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("case", ["random", "equal views", "equal codes", "opposite views"])
def test_small_temperatures_stay_finite(tau, rho, released, queued, case, generator):
    first = torch.randn(6, 16, generator=generator)
    second = {
        "random": torch.randn(6, 16, generator=generator),
        "equal views": first,
        "equal codes": torch.ones(6, 16),
        "opposite views": -first,
    }[case]
    codes = torch.cat([second if case == "equal codes" else first, second]).requires_grad_()
    queue = torch.rand(5, 16, generator=generator) if queued else None
    single = debiased_contrast(codes[:6], codes[6:], tau, rho, queue, released=released)[0]
    single.mean().backward()
    assert bool(single.isfinite().all())
    assert bool(codes.grad.isfinite().all())
    double = None if queue is None else queue.double()
    exact, _ = debiased_contrast(codes[:6].double(), codes[6:].double(), tau, rho, double, released=released)
    assert torch.allclose(single.double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("released", "expected"), [(False, 0.0), (True, math.log1p(math.exp(-1 / 0.35)))])
def test_a_single_image_has_no_negatives(released, expected):
    codes = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    losses, bound = debiased_contrast(codes[:1], codes[1:], 0.35, 0.1, released=released)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([expected] * 2, abs=1e-12)
    assert bool(bound.all()) == released
    assert bool(codes.grad.isfinite().all())


def test_the_soft_code_is_the_reconstruction_of_two_codewords(hash_vectors):
    v = hash_vectors["mecoq"]["binary_special_case"]
    logits = torch.tensor([v["x"]], dtype=torch.float64, requires_grad=True)
    model = MeCoQ(4, 3, alpha=v["alpha"])
    code = model.binarize(logits)
    assert code[0].tolist() == pytest.approx(v["reconstruction"], abs=1e-9)
    assert torch.sigmoid(2 * v["alpha"] * logits)[0].tolist() == pytest.approx(v["p_plus"], abs=1e-9)
    code.sum().backward()
    expected = v["alpha"] * (1 - code.detach() ** 2)
    assert torch.allclose(logits.grad, expected, atol=1e-9)


def test_entropy_equals_the_vector(hash_vectors):
    v = hash_vectors["mecoq"]
    codes = torch.tensor(v["soft_codes_view1"], dtype=torch.float64)
    logits = 2 * codes.atanh()  # 2 alpha u, of tanh(alpha u)
    assert binary_entropy(logits).mean().item() == pytest.approx(v["binary_entropy_view1"], abs=1e-9)


def test_entropy_has_the_gradient_of_its_formula():
    logits = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(binary_entropy, logits)
    p = torch.sigmoid(logits.detach())
    assert torch.allclose(binary_entropy(logits), -(p * p.log() + (1 - p) * (1 - p).log()))


def test_without_debiasing_and_queue_it_is_nt_xent(generator):
    first, second = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    losses, _ = debiased_contrast(first, second, 0.35)
    assert losses.mean().item() == pytest.approx(nt_xent(first, second, 0.35).item(), abs=1e-12)


def step(model, generator):
    views = model(torch.randn(8, 6, generator=generator), num_views=2)
    model.objective(views)
    return torch.cat([view.code for view in views]).detach()


def test_the_queue_fills_from_its_epoch_on_and_forgets_the_oldest(generator):
    model = MeCoQ(6, 4, queue_size=20, queue_start=1)
    model.setup(steps_per_epoch=2)
    for _ in range(2):
        step(model, generator)
    assert int(model.queued) == 0
    codes = torch.cat([step(model, generator) for _ in range(3)])  # 24 rows
    assert int(model.queued) == 24
    assert torch.equal(model.queue[:4], codes[20:])
    assert torch.equal(model.queue[4:], codes[4:20])


def test_evaluation_leaves_the_queue_alone(generator):
    model = MeCoQ(6, 4, queue_start=0).eval()
    step(model, generator)
    assert int(model.queued) == int(model.step) == 0


def test_the_queue_can_be_left_out(generator):
    model = MeCoQ(6, 4, queue_size=0, queue_start=0)
    step(model, generator)
    step(model, generator)
    assert int(model.queued) == 0


def test_scaled_logits_do_not_see_their_length(generator):
    model = MeCoQ(6, 4, normalise_logits=True)
    logits = torch.randn(3, 4, generator=generator)
    assert torch.allclose(model.binarize(logits), model.binarize(7 * logits), atol=1e-6)


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="rho must be a number of at least 0 and below 1, got 1.0"):
        MeCoQ(4, 8, rho=1.0)
