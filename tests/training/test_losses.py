"""Losses of a step, compiled and not: the same numbers for every method and every hashing model."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from brcd_lightning.config import build
from brcd_lightning.distillation.brcd import BRCD
from brcd_lightning.distillation.crd import CRD
from brcd_lightning.distillation.kl import KL
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.mecoq import MeCoQ
from brcd_lightning.training.distillation_module import DistillationModule
from brcd_lightning.training.hashing_module import HashingModule, TrainingOptions
from brcd_lightning.training.losses import (
    COMPILERS,
    compiled_losses,
    distillation_losses,
    hashing_losses,
    remembered,
    require_compiler,
)
from conftest import TINY, make_datamodule, make_network, run_command
from offered import BITS, HASHING_MODELS, KD_CASES, configuration, make_batch, ready, small
from small_training import make_teacher, make_trainer, state_of

STEPS = 3
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def distillation_case(name):
    """Losses of a method, its module, and the inputs of a step."""
    method = ready(name, torch.Generator().manual_seed(0))
    losses = partial(distillation_losses, make_network(BITS).hashing_model, 1.0, method, [], None)
    return losses, method, make_batch(torch.Generator().manual_seed(1))


def hashing_case(name):
    """Losses of a hashing model, the model, and the inputs of a step."""
    torch.manual_seed(0)
    options = small(configuration(f"bits={BITS}", f"hashing_model={name}").hashing_model)
    model = build(options, in_features=12, bits=BITS, head="linear")
    model.setup(4)
    features = torch.randn(model.num_views * 12, 12, requires_grad=True)
    forward = partial(model, num_views=model.num_views)
    return lambda step: hashing_losses(model, 0.5, forward(step.features)), model, SimpleNamespace(features=features)


CASES = [pytest.param(distillation_case, name, id=name) for name in KD_CASES]
CASES += [pytest.param(hashing_case, name, id=name) for name in HASHING_MODELS]


def steps(losses, part, inputs):
    """Terms, diagnostics and gradients of some steps on the same inputs, and the state after them."""
    torch.manual_seed(0)
    leaves = [value for value in vars(inputs).values() if isinstance(value, torch.Tensor) and value.requires_grad]
    leaves += [parameter for parameter in part.parameters() if parameter.requires_grad]
    found = []
    for _ in range(STEPS):
        terms, diagnostics = losses(inputs)
        values = terms | diagnostics
        if terms:
            gradients = torch.autograd.grad(torch.stack(list(terms.values())).sum(), leaves, allow_unused=True)
            values |= {f"gradient {number}": each for number, each in enumerate(gradients) if each is not None}
        found.append({name: value.detach().clone() for name, value in values.items()})
    return found, state_of(part)


def assert_compiled_alike(case, name, compiled):
    losses, part, inputs = case(name)
    if remembered(part):
        pytest.skip("has a memory, and is not compiled")
    eager = steps(*case(name))
    torch._dynamo.reset()
    found = steps(compiled(losses), part, inputs)
    for one, other in zip([*eager[0], eager[1]], [*found[0], found[1]], strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, **TOLERANCE, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), CASES)
def test_a_traced_step_gives_the_numbers_of_the_step_itself(case, name):
    """Tracing is where a compiled step goes wrong; a kernel for each sum would take minutes to compile."""
    assert_compiled_alike(case, name, partial(torch.compile, dynamic=False, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.parametrize(("case", "name"), [(distillation_case, "brcd"), (hashing_case, "cibhash")])
def test_a_compiled_step_gives_the_numbers_of_the_step_itself(case, name):
    assert_compiled_alike(case, name, partial(compiled_losses, device=torch.device("cpu")))


def trained(tmp_path, splits, compile_losses):
    torch.manual_seed(0)
    method = BRCD(num_clusters=4, n_init=2)
    options = TrainingOptions(1e-2, 20, compile_losses=compile_losses)
    module = DistillationModule(make_network(seed=1), make_teacher(), method, options, {"bits": 16})
    trainer = make_trainer(tmp_path, epochs=2, module=module, limit_val_batches=0)
    trainer.fit(module, datamodule=make_datamodule(splits))
    return state_of(module.network), {name: value.item() for name, value in trainer.callback_metrics.items()}


@pytest.mark.slow
def test_a_compiled_training_repeats_bit_for_bit_and_stays_near_the_plain_one(tmp_path, splits):
    plain, metrics = trained(tmp_path, splits, compile_losses=False)
    once, its_metrics = trained(tmp_path, splits, compile_losses=True)
    again, _ = trained(tmp_path, splits, compile_losses=True)
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert any(not torch.equal(plain[name], once[name]) for name in once)  # it was compiled
    assert its_metrics == pytest.approx(metrics, rel=0.05, abs=0.02)


def test_what_remembers_is_not_compiled(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "brcd_lightning.training.hashing_module.compiled_losses", lambda losses, device: asked.append(device) or losses
    )
    options = TrainingOptions(1e-2, 20, compile_losses=True)
    for method in (BRCD(num_clusters=4), KL()):
        assert DistillationModule(make_network(), make_teacher(), method, options, {})._losses
    assert asked == [torch.device("cpu")] * 2
    crd = CRD(dim=8, num_negatives=5)
    crd.setup(64, 16, 4)
    assert remembered(crd)
    assert DistillationModule(make_network(), make_teacher(), crd, options, {})._losses
    memory = MeCoQ(4, 16)
    if remembered(memory):
        network = make_network()
        network.hashing_model = memory
        assert HashingModule(network, options, {})._losses
    assert len(asked) == 2


def test_a_machine_without_a_compiler_is_told_so(monkeypatch):
    monkeypatch.setenv("CXX", "a-compiler")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=rf"none of a-compiler, {', '.join(COMPILERS[:1])}.* is installed; install"):
        require_compiler()
    monkeypatch.setattr("shutil.which", lambda name: name if name == "a-compiler" else None)
    require_compiler()


def test_a_run_without_a_compiler_ends_before_training(tmp_path):
    done = run_command(*TINY, "compile=step", "dry_run=true", cwd=tmp_path, env={"PATH": "", "CXX": ""})
    assert done.returncode == 2
    assert done.stderr.startswith("error: compile=step needs a C++ compiler")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("method", "student"), [("brcd", "student"), ("crd", "student not (CRD has a memory)")])
def test_the_plan_says_what_is_compiled(tmp_path, method, student):
    options = [*TINY, f"kd_method={method}"]
    if method == "crd":
        options = [*(option for option in options if "num_clusters" not in option), "kd_method.num_negatives=5"]
    done = run_command(*options, "compile=step", "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Compiled losses: teacher, {student}\n" in done.stdout
