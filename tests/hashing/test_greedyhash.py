import pytest
import torch

from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashOutput
from brcd_lightning.hashing.greedyhash import GreedyHash, similarity_loss


def test_equals_the_vectors(hash_vectors):
    v = hash_vectors["greedyhash"]
    logits, features = (torch.tensor(v[key], dtype=torch.float64) for key in ("h", "features"))
    logits.requires_grad_()
    model = GreedyHash(4, 3, alpha=v["alpha"])
    code = model.binarize(logits)
    assert code.tolist() == v["codes"]
    terms = model.objective([HashOutput(features, logits, code)])
    assert terms["similarity"].item() == pytest.approx(v["similarity_loss"], abs=1e-9)
    assert terms["penalty"].item() == pytest.approx(v["alpha"] * v["penalty_mean_p3"], abs=1e-9)
    assert sum(terms.values()).item() == pytest.approx(v["total"], abs=1e-9)
    (gradient,) = torch.autograd.grad(terms["penalty"] / v["alpha"], logits)
    assert torch.allclose(gradient, torch.tensor(v["penalty_grad_h"], dtype=torch.float64), atol=1e-9)


def test_the_gradient_passes_the_sign_unclipped():
    logits = torch.tensor([[-3.0, 0.0, 0.5]], requires_grad=True)
    code = GreedyHash(2, 3).binarize(logits)
    (code * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert code.tolist() == [[-1, 1, 1]]
    assert logits.grad.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("pairs", ["half", "all"])
def test_similarity_equals_a_loop(pairs, generator):
    codes, features = (torch.randn(5, width, generator=generator, dtype=torch.float64) for width in (6, 9))
    couples = [(0, 2), (1, 3)] if pairs == "half" else [(i, j) for i in range(5) for j in range(i + 1, 5)]
    cosine = lambda rows, i, j: torch.cosine_similarity(rows[i], rows[j], dim=0)  # noqa: E731
    expected = torch.stack([(cosine(codes, *c) - cosine(features, *c)) ** 2 for c in couples]).mean()
    assert similarity_loss(codes, features, pairs).item() == pytest.approx(expected.item(), abs=1e-12)


def test_features_are_a_target_only(generator):
    codes, features = (torch.randn(4, 3, generator=generator, requires_grad=True) for _ in range(2))
    similarity_loss(codes, features).backward()
    assert codes.grad.abs().sum() > 0
    assert features.grad is None


def test_one_image_has_no_pair():
    assert similarity_loss(torch.ones(1, 3), torch.ones(1, 3)).item() == 0


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="pairs must be one of half, all"):
        GreedyHash(4, 8, pairs="some")
