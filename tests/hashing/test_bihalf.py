import pytest
import torch

from brcd_lightning.hashing.base import HashOutput
from brcd_lightning.hashing.bihalf import BiHalf, bihalf_codes


def test_equals_the_vectors(hash_vectors):
    v = hash_vectors["bihalf"]
    logits = torch.tensor(v["u"], dtype=torch.float64, requires_grad=True)
    model = BiHalf(4, 3, gamma=v["gamma"])
    code = model.binarize(logits)
    assert code.tolist() == v["codes"]
    penalty = model.objective([HashOutput(torch.ones(4, 4), logits, code)])["penalty"]
    assert penalty.item() == pytest.approx(v["equivalent_penalty_gamma_over_2_mean_sq"], abs=1e-9)
    # The explicit penalty gives the gradient that the original makes in its backward pass.
    upstream = torch.tensor(v["upstream_grad"], dtype=torch.float64)
    ((code * upstream).sum() + penalty).backward()
    assert torch.allclose(logits.grad, torch.tensor(v["grad_u"], dtype=torch.float64), atol=1e-9)
    assert code.sum(dim=0).tolist() == v["column_sums"]


def test_an_odd_batch_has_one_more_minus_one(hash_vectors):
    v = hash_vectors["bihalf"]["odd_batch"]
    assert bihalf_codes(torch.tensor(v["u"])).tolist() == v["codes"]


def test_equal_logits_go_to_the_first_rows():
    assert bihalf_codes(torch.zeros(4, 2))[:, 0].tolist() == [1, 1, -1, -1]


def test_each_view_is_halved_by_itself(generator):
    views = BiHalf(6, 8)(torch.randn(12, 6, generator=generator), num_views=3)
    assert all(view.code.sum(dim=0).abs().max() == 0 for view in views)


def test_distillation_sees_the_layer_or_the_signs(generator):
    features = torch.randn(6, 6, generator=generator)
    for kind in ("hash_layer", "sign_ste"):
        model = BiHalf(6, 8, kd_code=kind)
        with torch.no_grad():
            model.head.bias += 5  # all signs +1
        (view,) = model(features)
        code = model.kd_code(view)
        assert code.requires_grad
        assert bool((code == 1).all()) == (kind == "sign_ste")
