"""What holds for every hashing model that conf/hashing_model offers."""

import copy
from pydoc import locate

import pytest
import torch

from both_devices import OTHERS, REFERENCE, TOLERANCE, difference, hashing
from brcd_lightning.backbones import small_backbone
from brcd_lightning.config import build
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from brcd_lightning.metrics import mean_average_precision
from offered import BITS, HASHING_MODELS, configuration, make_model, small


def model_class(name):
    return locate(configuration(f"hashing_model={name}").hashing_model._target_)


@pytest.fixture(params=HASHING_MODELS)
def name(request):
    return request.param


@pytest.fixture(params=[name for name in HASHING_MODELS if model_class(name).trains])
def trained_name(request):
    return request.param


def network(name):
    torch.manual_seed(0)
    backbone = small_backbone([4], grid=2, freeze="full")
    return HashNetwork(backbone, make_model(name, backbone.num_features, BITS))


def terms(model, features):
    return model.objective(model(features, model.num_views))


def test_encode_does_not_depend_on_batch_mode_or_state(name, generator):
    net = network(name).train()
    images = torch.randn(6, 3, 16, 16, generator=generator)
    net.eval()
    codes = net.encode(images)
    net.train()
    for _ in range(3):  # fills queues and statistics
        views = [torch.randn(4, 3, 16, 16, generator=generator) for _ in range(net.hashing_model.num_views)]
        net.hashing_model.objective(net(views))
    head = net.hashing_model.head.state_dict()
    assert torch.equal(torch.cat([net.encode(image[None]) for image in images]), codes)
    net.eval()
    assert torch.equal(net.encode(images), codes)
    assert set(codes.unique().tolist()) <= {-1, 1}
    assert all(torch.equal(head[key], value) for key, value in net.hashing_model.head.state_dict().items())


def test_a_logit_of_zero_is_plus_one(name):
    net = network(name)
    for parameter in net.hashing_model.head.parameters():
        torch.nn.init.zeros_(parameter)
    assert bool((net.encode(torch.randn(2, 3, 16, 16)) == 1).all())


def test_what_distillation_sees_has_a_gradient_and_lies_between_the_signs(name, generator):
    model = network(name).hashing_model
    (view,) = model(torch.randn(6, model_width(model), generator=generator))
    code = model.kd_code(view)
    assert code.requires_grad
    assert code.abs().max() <= 1
    code.sum().backward()
    last = linear_layers(model)[-1]
    assert last.weight.grad.abs().sum() > 0


def linear_layers(model):
    return [layer for layer in model.head.modules() if isinstance(layer, torch.nn.Linear)]


def model_width(model):
    return linear_layers(model)[0].in_features


def test_scaled_losses_give_scaled_gradients(trained_name, generator):
    """What mixed precision and accumulated batches rely on; nothing is added in a backward pass."""
    model = network(trained_name).hashing_model
    features = torch.randn(model.num_views * 8, model_width(model), generator=generator)
    gradients = []
    for factor in (1.0, 1024.0):
        each = copy.deepcopy(model)
        torch.manual_seed(1)
        (factor * sum(terms(each, features).values())).backward()
        gradients.append([parameter.grad / factor for parameter in each.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-9) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("other", OTHERS)
def test_a_gpu_gives_the_same_losses_codes_and_gradients(name, other):
    expected = hashing(name, **REFERENCE)
    assert any(value.abs().sum() > 0 for value in expected.values())
    assert difference(hashing(name, **other), expected) < TOLERANCE


def test_diagnostics_say_how_balanced_and_decided_the_bits_are(name, generator):
    model = network(name).hashing_model
    views = model(torch.randn(model.num_views * 8, model_width(model), generator=generator), model.num_views)
    model.objective(views)
    found = model.diagnostics(views)
    assert {"bit_bias", "saturation"} <= set(found)
    assert all(0 <= value.item() <= 1 for value in found.values())


def synthetic():
    """Ten classes of features: a mean, an own 12-dimensional subspace, and noise; train, database and queries."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    means, bases = 0.55 * normal(10, 256), 0.45 * normal(10, 12, 256)

    def draw(count):
        labels = torch.randint(10, (count,), generator=generator)
        inside = (normal(count, 1, 12) @ bases[labels])[:, 0]
        return means[labels] + inside + 0.5 * normal(count, 256), labels

    return draw(2000), draw(4000), draw(400)


# An auto-encoder whose codes link a batch learns slowly.
FEWEST_STEPS, MOST_STEPS = 600, 10_000
WIDTHS = {"latent_features": 32, "hidden_features": 256}


def test_every_objective_beats_random_projection(trained_name):
    (train, _), (database, database_labels), (queries, query_labels) = synthetic()
    torch.manual_seed(0)
    model = make_model(trained_name, 256, 64, WIDTHS)
    model.setup(steps_per_epoch=31)

    def quality(encode):
        codes = [torch.where(encode(rows) >= 0, 1, -1).to(torch.int8) for rows in (queries, database)]
        return mean_average_precision(*codes, query_labels, database_labels, 400).item()

    projection = torch.randn(256, 64)
    random = quality(lambda rows: rows @ projection)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    @torch.no_grad()
    def learned():
        balance = torch.where(model.head(train) >= 0, 1.0, -1.0).mean(dim=0).abs().mean()
        return balance < 0.5 and quality(model.head) > 1.1 * random

    for step in range(1, MOST_STEPS + 1):
        rows = train[torch.randint(len(train), (64,))]
        views = [rows + 0.6 * torch.randn_like(rows) for _ in range(2)] if model.num_views == 2 else [rows]
        optimizer.zero_grad()
        sum(terms(model, torch.cat(views)).values()).backward()
        optimizer.step()
        if step >= FEWEST_STEPS and step % 200 == 0 and learned():
            return
    pytest.fail(f"{trained_name} is not better than a random projection after {MOST_STEPS} steps")


def test_a_model_that_does_not_train_has_no_terms_and_a_fit(name, generator):
    model = network(name).hashing_model
    features = torch.randn(model.num_views * 64, model_width(model), generator=generator)
    if model.trains:
        assert terms(model, features)
        return
    assert not terms(model, features)
    before = copy.deepcopy(model.state_dict())
    model.fit(features)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(bool(value.isfinite().all()) and not torch.equal(value, before[key]) for key, value in after.items())


def test_mixed_precision_rounds_logits_and_nothing_behind_them(name, generator):
    model = network(name).hashing_model.eval()
    features = torch.randn(2 * model.num_views * 4, model_width(model), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(features, model.num_views)
    model.head.forward = lambda _: torch.cat([view.logits for view in mixed])
    full = model(features, model.num_views)
    for one, other in zip(mixed, full, strict=True):
        assert one.code.dtype == one.logits.dtype == torch.float32
        assert torch.equal(one.code, other.code)


def test_a_batch_that_is_accumulated_twice_by_halves_has_the_gradient_of_one(trained_name, generator):
    once = network(trained_name).hashing_model
    twice = copy.deepcopy(once)
    features = torch.randn(4 * once.num_views, model_width(once), generator=generator)
    for model, parts in ((once, 1), (twice, 2)):
        for _ in range(parts):
            state = copy.deepcopy(model.state_dict())
            torch.manual_seed(0)
            (sum(terms(model, features).values()) / parts).backward()
            model.load_state_dict(state)  # queues and statistics see the batch once
    for one, other in zip(once.parameters(), twice.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)


# Another value of each option. Where the option has an effect only beside others, those come with both values.
OTHER = {
    "adversarial": 0.5,
    "adversary": "minimax",
    "alpha": 0.7,
    "beta": 0.5,
    "critic_features": 3,
    "entropy": 0.5,
    "gamma": 2.0,
    "head": "mlp",
    "hidden_features": 7,
    "iterations": 3,
    "kd_code": "sign_ste",
    "latent_activation": False,
    "latent_features": 5,
    "normalise_logits": True,
    "pairs": "all",
    "power": 1.0,
    "queue_size": 4,
    "queue_start": 1,
    "reconstruction": "sum",
    "released": True,
    "rho": 0.3,
    "stochastic": True,
    "tau": 0.7,
}
OPTIONS = [
    (name, key)
    for name in HASHING_MODELS
    for key in (*configuration(f"hashing_model={name}").hashing_model, "head")
    if key != "_target_"
]


def outcome(name, options):
    """Everything that a model computes in a fit, where its head has one layer, and in four steps of training."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    options = {"head": "linear", **options}
    node = small(configuration(f"hashing_model={name}").hashing_model)
    model = build(node, in_features=24, bits=BITS, **options)
    model.setup(steps_per_epoch=2)
    if not model.trains and options["head"] == "linear":
        model.fit(torch.randn(200, 24, generator=generator))
    trained = list(model.parameters())
    optimizer = torch.optim.SGD(trained, lr=0.1)
    found = []
    for _ in range(4):
        views = model(torch.randn(model.num_views * 8, 24, generator=generator), model.num_views)
        losses = {**model.objective(views), "kd": model.kd_code(views[0]).pow(3).mean()}
        found.append({key: value.item() for key, value in {**losses, **model.diagnostics(views)}.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        found.append([view.code.tolist() for view in views])
    return found


@pytest.mark.parametrize(("model", "option"), OPTIONS)
def test_every_option_has_an_effect(model, option):
    beside = {"head": "mlp"} if option == "hidden_features" else {}
    usual = outcome(model, beside)
    assert outcome(model, beside) == usual  # nothing but the option makes a difference
    assert outcome(model, {**beside, option: OTHER[option]}) != usual


@pytest.mark.parametrize(
    ("model", "option"),
    [(model, option) for model, option in OPTIONS if option.endswith("_features") or option == "queue_size"],
)
def test_a_width_that_no_memory_holds_is_refused(model, option):
    node = configuration(f"hashing_model={model}").hashing_model
    message = rf"^hashing_model\.{option}=2000000000 needs [\d.]+ [TPE]B of memory, this machine has .*; lower it\.$"
    with pytest.raises(InputError, match=message):
        build(node, in_features=512, bits=1024, head="mlp", **{option: 2 * 10**9})
