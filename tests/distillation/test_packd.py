from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.packd import PACKD, PACKDOptions, packd_loss, transport_plan


@pytest.mark.parametrize(
    ("momentum", "options", "key"),
    [
        (0.5, {}, "packd_views1"),
        (0.0, {}, "packd_views1_momentum0"),
        (0.5, {"exclude_self": True}, "packd_views1_self_excluded"),
    ],
)
def test_one_view_equals_the_vectors(kd_vectors, momentum, options, key):
    vector = kd_vectors["v7_packd"]
    method = PACKD(
        views=1,
        num_negatives=2,
        temperature=vector["T"],
        momentum=momentum,
        warmup_epochs=0,
        **{"exclude_self": False, **options},
    )
    method.setup(num_images=6, bits=4, steps_per_epoch=1)
    method.double()
    weights = {"weight": torch.tensor(vector["W_s"], dtype=torch.float64)}
    weights["bias"] = torch.tensor(vector["b_s"], dtype=torch.float64)
    method.embed_student.load_state_dict(weights)
    method.bank.copy_(torch.tensor(vector["bank_t"], dtype=torch.float64))
    rows = torch.tensor(vector["contrast_views1"])
    method.negatives.forward = lambda index: rows
    codes = [torch.tensor(vector[name], dtype=torch.float64) for name in ("s_views1", "t_views1")]
    value = method(KDInput(*codes, torch.tensor(vector["idx_views1"]))).terms["packd"].item()
    assert value == pytest.approx(vector["expected"][key], abs=1e-9)
    if key == "packd_views1":
        expected = torch.tensor(vector["expected"]["bank_after_views1"], dtype=torch.float64)
        assert torch.allclose(method.bank, expected, atol=1e-12)


def test_the_plan_is_the_optimal_one(generator):
    """Its marginals are uniform and it is a rank-one scaling of exp(-cost / eps): there is only one such plan."""
    cost = torch.rand(5, 4, 4, generator=generator, dtype=torch.float64)
    plan = transport_plan(cost, eps=0.1, iterations=500, tolerance=1e-12)
    for axis in (1, 2):
        assert torch.allclose(plan.sum(dim=axis), torch.full((5, 4), 0.25, dtype=torch.float64), atol=1e-6)
    scaling = plan.log() + cost / 0.1
    centred = scaling - scaling.mean(dim=1, keepdim=True) - scaling.mean(dim=2, keepdim=True)
    centred = centred + scaling.mean(dim=(1, 2), keepdim=True)
    assert centred.abs().max() < 1e-8


def test_distant_views_get_no_weight_and_nothing_overflows(generator):
    cost = 4 * (1 - torch.eye(3))[None]
    plan = transport_plan(cost, eps=0.01)
    assert torch.allclose(plan, torch.eye(3)[None] / 3, atol=1e-4)


def test_gradient_is_exact_for_a_fixed_plan(generator):
    student = torch.randn(3, 1, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = F.normalize(torch.randn(3, 1, 4, generator=generator, dtype=torch.float64), dim=2)
    bank = F.normalize(torch.randn(20, 4, generator=generator, dtype=torch.float64), dim=1)
    rows = torch.randint(20, (3, 5), generator=generator)
    assert torch.autograd.gradcheck(
        lambda s: packd_loss(s, teacher, bank, rows, PACKDOptions(temperature=0.5)), student
    )


def test_the_memory_keeps_nothing_old_while_it_warms_up(generator):
    method = PACKD(views=1, num_negatives=5, warmup_epochs=1)
    method.setup(num_images=20, bits=8, steps_per_epoch=2)
    method.prepare(torch.empty(0), torch.arange(20) % 4)
    teachers = torch.ones(4, 8), torch.tensor([1.0, -1] * 4).expand(4, 8)
    batch = KDInput(torch.randn(4, 8, generator=generator), teachers[0], torch.arange(4))
    for step in range(3):
        teacher = teachers[step % 2]
        method(replace(batch, teacher=teacher))
        assert torch.allclose(method.bank[:4], teacher / 8**0.5, atol=1e-6) == (step < 2)


def test_it_says_that_it_uses_labels():
    assert PACKD().uses_labels
    assert PACKD(views=4, negatives="uniform").uses_labels  # class positives
    assert not PACKD(views=1, negatives="uniform").uses_labels
