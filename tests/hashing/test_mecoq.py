import pytest
import torch

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
    with pytest.raises(InputError, match="rho must be below 1"):
        MeCoQ(4, 8, rho=1.0)
