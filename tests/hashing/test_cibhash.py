import pytest
import torch
import torch.nn.functional as F

from brcd_lightning.codes import sign, sign_ste
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashOutput
from brcd_lightning.hashing.cibhash import CIBHash, nt_xent, symmetric_bernoulli_kl


def test_losses_equal_the_vectors(kd_vectors):
    v = kd_vectors["v9_no_kd_cibhash"]
    z1, z2, p1, p2 = (torch.tensor(v[key], dtype=torch.float64) for key in ("z1", "z2", "p1", "p2"))
    contrastive, bottleneck = nt_xent(z1, z2, v["tau"]), symmetric_bernoulli_kl(p1, p2)
    assert contrastive.item() == pytest.approx(v["expected"]["nt_xent"], abs=1e-9)
    assert bottleneck.item() == pytest.approx(v["expected"]["bernoulli_kl"], abs=1e-9)
    assert (contrastive + v["weight"] * bottleneck).item() == pytest.approx(v["expected"]["total"], abs=1e-9)


def test_losses_and_codes_equal_the_vectors_of_the_hashing_models(hash_vectors):
    v = hash_vectors["cibhash"]
    first, second = (torch.tensor(v[key], dtype=torch.float64, requires_grad=True) for key in ("logits_i", "logits_j"))
    model = CIBHash(4, first.shape[1], tau=v["tau"], beta=0.001)
    codes = [model.binarize(logits) for logits in (first, second)]
    assert [code.tolist() for code in codes] == [v["codes_i"], v["codes_j"]]
    bottleneck = symmetric_bernoulli_kl(first.sigmoid(), second.sigmoid())
    assert bottleneck.item() == pytest.approx(v["kl_symmetric"], abs=1e-9)
    assert nt_xent(*codes, v["tau"]).item() == pytest.approx(v["nt_xent_codes"], abs=1e-9)
    views = [HashOutput(logits, logits, code) for logits, code in zip((first, second), codes, strict=True)]
    assert sum(model.objective(views).values()).item() == pytest.approx(v["total_beta_0.001"], abs=1e-9)
    codes[0].sum().backward()
    assert first.grad.flatten().tolist() == pytest.approx(
        torch.tensor(v["ste_factor_sigmoid_prime"]).flatten().tolist()
    )


def test_nt_xent_equals_a_loop(generator):
    first, second = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = [*first, *second]
    losses = []
    for i, row in enumerate(rows):
        similarity = [F.cosine_similarity(row, other, dim=0) / 0.4 for other in rows]
        others = torch.stack([s for j, s in enumerate(similarity) if j != i])
        losses.append(others.logsumexp(0) - similarity[(i + 5) % 10])
    assert nt_xent(first, second, 0.4).item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-12)


def test_kl_detaches_the_target():
    p, q = (torch.tensor([[value]], dtype=torch.float64, requires_grad=True) for value in (0.3, 0.6))
    symmetric_bernoulli_kl(p, q).backward()
    logit = lambda x: torch.log(x / (1 - x))  # noqa: E731
    assert p.grad.item() == pytest.approx(((logit(p) - logit(q)) / 2).item(), rel=1e-6)


def test_estimator_carries_p_times_one_minus_p():
    model = CIBHash(4, 3)
    logits = torch.tensor([[-1.0, 0.0, 2.0]], requires_grad=True)
    code = model.binarize(logits)
    code.sum().backward()
    p = torch.sigmoid(logits.detach())
    assert code.tolist() == [[-1, 1, 1]]
    assert torch.allclose(logits.grad, p * (1 - p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_code_is_the_evaluation_code_of_every_logit(dtype):
    sizes = 10.0 ** torch.arange(-44, 3, dtype=dtype)
    edges = torch.tensor([0.0, 5.9e-8, 6e-8, torch.finfo(dtype).tiny, torch.finfo(dtype).max], dtype=dtype)
    logits = torch.cat([sizes, -sizes, edges, -edges])[None].requires_grad_()
    model = CIBHash(4, logits.shape[1])
    code = model.binarize(logits)
    assert torch.equal(code, sign(logits))
    weights = torch.linspace(-1, 1, logits.numel(), dtype=dtype)[None]
    (gradient,) = torch.autograd.grad((code * weights).sum(), logits)
    (expected,) = torch.autograd.grad((sign_ste(torch.sigmoid(logits) - 0.5) * weights).sum(), logits)
    assert torch.equal(gradient, expected)


def test_objective_names_its_weighted_terms(generator):
    model = CIBHash(6, 8, beta=0.5, head="mlp", hidden_features=5)
    views = model(torch.randn(8, 6, generator=generator), num_views=2)
    terms = model.objective(views)
    kl = symmetric_bernoulli_kl(*(torch.sigmoid(view.logits) for view in views))
    assert set(terms) == {"contrastive", "bottleneck"}
    assert terms["bottleneck"].item() == pytest.approx(0.5 * kl.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 0}, "bits must be a positive integer, got 0"),
        ({"bits": 8, "tau": 0.0}, "tau must be a positive number"),
        ({"bits": 8, "beta": -1}, "beta must be a number of at least 0, got -1"),
        ({"bits": 8, "head": "mpl"}, "head must be one of linear, mlp, got 'mpl'. Did you mean 'mlp'?"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError) as error:
        CIBHash(4, **options)
    assert message in str(error.value)
