import math

import pytest
import torch
from torch import nn

from brcd_lightning.hashing.base import HashOutput
from brcd_lightning.hashing.tbh import TBH, Standardizer, adjacency, critic_loss, normalised, reconstruction_loss


def double(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("power", [1.0, 1.4])
def test_the_graph_equals_the_vectors(hash_vectors, power):
    v = hash_vectors["tbh"]
    expected = v[f"power_{power}"]
    graph = adjacency(double(v["codes01"]), power)
    assert torch.allclose(graph, double(expected["adjacency"]), atol=1e-9)
    assert torch.allclose(normalised(graph), double(expected["normalised"]), atol=1e-9)
    averaged = torch.sigmoid(normalised(graph) @ (double(v["z"]) @ double(v["W_in_by_out"]) + double(v["bias"])))
    assert torch.allclose(averaged, double(expected["gcn_sigmoid"]), atol=1e-9)


def test_the_graph_has_a_gradient_where_codes_are_opposite():
    bits = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    adjacency(bits, 1.4).sum().backward()
    assert bool(bits.grad.isfinite().all())


def test_the_binary_neuron_equals_the_vectors(hash_vectors, monkeypatch):
    v = hash_vectors["tbh"]["binary_neuron"]
    logits = double(v["logits"]).requires_grad_()
    monkeypatch.setattr(torch, "rand_like", lambda like: double(v["eps"]))
    code = TBH(3, 4, stochastic=True).binarize(logits)
    bits = (code + 1) / 2
    assert bits.tolist() == v["codes"]
    (bits * double(v["upstream"])).sum().backward()
    assert torch.allclose(logits.grad, double(v["grad_logits"]), atol=1e-9)


def test_standardizing_uses_the_moments_of_all_features_it_saw_in_training():
    torch.manual_seed(0)
    batches = [torch.randn(rows, 3) * 2 + 5 for rows in (4, 7, 1)]
    scaler = Standardizer(3)
    outputs = [scaler(batch) for batch in batches]
    seen = torch.cat(batches)
    mean, deviation = seen.mean(dim=0), seen.std(dim=0, correction=0)
    assert torch.allclose(outputs[-1], (batches[-1] - mean) / deviation, atol=1e-5)
    scaler.eval()
    assert torch.allclose(scaler(batches[0]), (batches[0] - mean) / deviation, atol=1e-5)
    assert scaler.count == 12


def test_without_draws_half_counts_as_one():
    assert TBH(3, 2).binarize(torch.tensor([[0.0, -0.1]])).tolist() == [[1, -1]]


def test_losses_equal_the_vectors(hash_vectors):
    v = hash_vectors["tbh"]["losses"]
    logits = {key: double(v[key]).logit() for key in ("d1_prior", "d1_code", "d2_prior", "d2_code")}
    critic = sum(critic_loss(logits[f"{d}_prior"], logits[f"{d}_code"]) for d in ("d1", "d2"))
    assert critic.item() == pytest.approx(v["critic"], abs=1e-9)
    nonsaturating = sum(nn.functional.softplus(-logits[f"{d}_code"]).mean() for d in ("d1", "d2"))
    assert nonsaturating.item() == pytest.approx(v["actor_adv_paper_nonsaturating"], abs=1e-9)
    assert -critic.item() == pytest.approx(v["actor_adv_released_minimax"], abs=1e-9)
    x, decoded = double(v["x"]), double(v["x_rec"])
    for scale, key, factor in (
        ("sum", "half_sum_squares_released_code", 1),
        ("paper", "paper_rec_mean_over_batch_of_sq_over_2M_with_M_4", 1),
        ("element", "mean_sq_per_element", 0.5),
    ):
        assert reconstruction_loss(x, decoded, scale, 4).item() == pytest.approx(factor * v[key], abs=1e-9)


def make(generator, **options):
    torch.manual_seed(0)
    model = TBH(6, 8, latent_features=5, hidden_features=7, **options)
    return model, model(torch.randn(10, 6, generator=generator))


@pytest.mark.parametrize("adversary", ["nonsaturating", "minimax"])
def test_each_side_trains_on_its_own_term(adversary, generator):
    model, views = make(generator, adversary=adversary)
    terms = model.objective(views)
    critics = list(model.critics.parameters())
    others = [p for name, p in model.named_parameters() if not name.startswith("critics")]
    critic = torch.autograd.grad(terms["critic"], critics + others, retain_graph=True, allow_unused=True)
    assert all(gradient is not None for gradient in critic[: len(critics)])
    assert all(gradient is None for gradient in critic[len(critics) :])
    actor = torch.autograd.grad(terms["adversarial"], critics + others, allow_unused=True)
    assert all(gradient is None for gradient in actor[: len(critics)])
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in actor[len(critics) :])


def test_the_minimax_term_moves_codes_as_the_negated_critic_loss_does(generator):
    torch.manual_seed(0)
    model = TBH(6, 8, latent_features=5, hidden_features=7, adversary="minimax", adversarial=1.0)
    features = torch.randn(10, 6, generator=generator)
    (view,) = model(features)
    (own,) = torch.autograd.grad(model.objective([view])["adversarial"], model.head[0].weight)
    (view,) = model(features)
    bits = (view.code + 1) / 2
    latent = torch.sigmoid(model.latent(model.head[:-1](features)))
    averaged = torch.sigmoid(normalised(adjacency(bits, 1.4)) @ model.graph(latent))
    loss = sum(
        critic_loss(torch.zeros(1, 1), critic(code))
        for critic, code in zip(model.critics, (bits, averaged), strict=True)
    )
    (expected,) = torch.autograd.grad(-loss, model.head[0].weight)
    assert torch.allclose(own, expected, atol=1e-7)


@pytest.mark.parametrize("options", [{"head": "linear"}, {"critic_features": 3}, {"latent_activation": False}])
def test_other_shapes_train(options, generator):
    model, views = make(generator, **options)
    sum(model.objective(views).values()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_features_are_standardised_by_what_training_has_shown(generator):
    rows = 3 + 2 * torch.randn(60, 4, generator=generator)
    rows[:, 0] = 7  # a feature that never changes
    standardize = Standardizer(4)
    for part in rows.split(20):
        standardize(part)
    standardize.eval()
    expected = (rows - rows.mean(dim=0)) / rows.std(dim=0, correction=0).where(torch.arange(4) > 0, torch.ones(4))
    assert torch.allclose(standardize(rows), expected, atol=1e-4)
    count = standardize.count.clone()
    standardize(rows)
    assert torch.equal(standardize.count, count)


def test_views_carry_what_the_objective_needs(generator):
    model, (view,) = make(generator)
    assert isinstance(view, HashOutput)
    assert math.isfinite(sum(model.objective([view]).values()).item())
