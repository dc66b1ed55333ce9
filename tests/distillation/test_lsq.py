import time

import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from brcd_lightning.distillation.lsq import LAMBDAS, LSQ, RidgePath
from brcd_lightning.errors import InputError


def data(generator, n=150, d=20, bits=8, noise=1.0):
    """Features with different means and deviations, and logits of a teacher that depend on them."""
    scale = torch.logspace(-1, 1, d, dtype=torch.float64)
    features = torch.randn(n, d, dtype=torch.float64, generator=generator) * scale + 3
    mixing = torch.randn(d, bits, dtype=torch.float64, generator=generator) / scale[:, None]
    logits = (features - 3) @ mixing + noise * torch.randn(n, bits, dtype=torch.float64, generator=generator) + 0.3
    return features, logits


def standardised(features):
    return (features - features.mean(dim=0)) / (features.std(dim=0, correction=0) + 1e-6)


@pytest.mark.parametrize(("n", "noise"), [(150, 0.1), (150, 20.0), (15, 1.0)])
def test_equals_ridge_cv_of_scikit_learn(generator, n, noise):
    features, logits = data(generator, n=n, noise=noise)
    codes = torch.where(logits >= 0, 1.0, -1.0).double()
    oracle = RidgeCV(alphas=n * LAMBDAS.numpy()).fit(standardised(features).numpy(), codes.numpy())
    found = LSQ().solve(features, logits)
    assert found.facts["lambda"] == pytest.approx(oracle.alpha_ / n)
    expected = torch.from_numpy(oracle.predict(standardised(features).numpy()))
    assert torch.allclose(features @ found.weight + found.bias, expected, atol=1e-6)


@pytest.mark.parametrize("lambda_", [1e-6, 1e-3, 1.0])
def test_equals_ridge_of_scikit_learn_for_a_given_lambda(generator, lambda_):
    features, logits = data(generator)
    codes = torch.where(logits >= 0, 1.0, -1.0).double()
    oracle = Ridge(alpha=lambda_ * len(features), solver="cholesky").fit(standardised(features).numpy(), codes.numpy())
    found = LSQ(lambda_=lambda_).solve(features, logits)
    expected = torch.from_numpy(oracle.predict(standardised(features).numpy()))
    assert torch.allclose(features @ found.weight + found.bias, expected, atol=1e-6)
    assert found.facts["lambda"] == lambda_


def test_leave_one_out_errors_are_those_of_refitted_regressions(generator):
    features, targets = (part[:25] for part in data(generator, n=25, d=6, bits=3))
    inputs, targets = features - features.mean(dim=0), targets - targets.mean(dim=0)
    lambdas = torch.tensor([1e-3, 0.1, 2.0], dtype=torch.float64)
    expected = []
    for lambda_ in lambdas.tolist():
        total = 0.0
        for left in range(25):
            others = [place for place in range(25) if place != left]
            oracle = Ridge(alpha=25 * lambda_).fit(inputs[others].numpy(), targets[others].numpy())
            total += ((oracle.predict(inputs[left : left + 1].numpy()) - targets[left].numpy()) ** 2).sum()
        expected.append(total / targets.numel())
    assert RidgePath(inputs, targets).leave_one_out_errors(lambdas).tolist() == pytest.approx(expected, rel=1e-9)


def test_a_student_equal_to_the_teacher_has_its_codes(generator):
    """The teacher's logits are linear in the features, so that regression on them finds the teacher's own head."""
    features, logits = data(generator, n=500, noise=0.0)
    found = LSQ(target="logits", lambda_=1e-9).solve(features, logits)
    codes = [torch.where(each >= 0, 1, -1) for each in (features @ found.weight + found.bias, logits)]
    assert torch.equal(*codes)
    # With as many features as images, the codes themselves can be met.
    features, logits = data(generator, n=20, d=30, noise=0.0)
    found = LSQ(lambda_=1e-6).solve(features, logits)
    assert torch.equal(torch.where(features @ found.weight + found.bias >= 0, 1, -1), torch.where(logits >= 0, 1, -1))


def test_logits_count_by_their_deviation(generator):
    features, logits = data(generator)
    one = LSQ(target="logits").solve(features, logits)
    scaled = LSQ(target="logits").solve(features, logits * torch.logspace(-2, 2, 8))
    assert torch.allclose(one.weight, scaled.weight)
    constant = LSQ(target="logits").solve(features, torch.ones(150, 8))
    assert torch.allclose(features @ constant.weight + constant.bias, torch.ones(150, 8, dtype=torch.float64))


def test_constant_features_do_not_matter(generator):
    features, logits = data(generator)
    found = LSQ().solve(torch.cat([features, torch.full((150, 1), 7.0)], dim=1), logits)
    assert torch.allclose(found.weight[:-1], LSQ().solve(features, logits).weight)
    assert bool(found.weight.isfinite().all())


def test_the_same_features_give_the_same_bits_on_any_number_of_threads(generator):
    features, logits = data(generator)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(LSQ().solve(features, logits).weight)
    torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.slow
def test_a_testbed_takes_seconds(generator):
    features, logits = torch.randn(5000, 1024, generator=generator), torch.randn(5000, 64, generator=generator)
    started = time.perf_counter()
    LSQ().solve(features, logits)
    assert time.perf_counter() - started < 6  # about 2 on a free core


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "labels"}, "kd_method.target must be one of codes, logits"),
        ({"lambda_": 0}, "kd_method.lambda_ must be a positive number or null, got 0"),
        ({"lambda_": 1e-300}, "kd_method.lambda_ must be a number of at least 1e-12 and at most 1e\\+12 or null, got"),
        ({"views": 10**6}, "kd_method.views must be an integer of at least 0 and at most 1000, got 1000000"),
        ({"views": -1}, "kd_method.views must be an integer of at least 0, got -1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LSQ(**options)


def test_features_that_are_no_numbers_are_refused(generator):
    features, logits = data(generator)
    features[0, 0] = float("inf")
    with pytest.raises(InputError, match="features of the student must be finite"):
        LSQ().solve(features, logits)


def test_it_asks_for_views_only_where_it_uses_them():
    assert LSQ().needs == {"teacher"}
    assert LSQ(views=2).needs == {"teacher", "views"}
    assert not LSQ(views=2).uses_labels
