"""What holds for every distillation method, or for the families they form."""

import copy

import pytest
import torch

from brcd_lightning.data.extra_views import Extras
from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.brcd import BRCD
from brcd_lightning.distillation.brcd_release import ReleasedBRCD
from brcd_lightning.distillation.crcd import CRCD
from brcd_lightning.distillation.crd import CRD
from brcd_lightning.distillation.kl import KL
from brcd_lightning.distillation.none import NoDistillation
from brcd_lightning.distillation.packd import PACKD
from brcd_lightning.distillation.pkt import PKT
from brcd_lightning.distillation.rkd import RKD
from brcd_lightning.distillation.sp import SP
from brcd_lightning.distillation.sskd import SSKD
from conftest import make_datamodule, random_codes
from test_modules import distillation, make_trainer

BITS, IMAGES = 16, 64
SMALL = {"dim": 8, "num_negatives": 10}
METHODS = {
    "none": NoDistillation,
    "kl": KL,
    "sp": SP,
    "sp_release": lambda: SP(variant="per_sample"),
    "rkd": RKD,
    "pkt": PKT,
    "crd": lambda: CRD(**SMALL),
    "crd_label": lambda: CRD(negatives="label", **SMALL),
    "crd_pseudo_label": lambda: CRD(negatives="pseudo_label", num_clusters=3, **SMALL),
    "crcd": lambda: CRCD(**SMALL),
    "sskd": SSKD,
    "sskd_release": lambda: SSKD(ratio=1.0, rotation_views="independent"),
    "packd": lambda: PACKD(**SMALL),
    "packd_release": lambda: PACKD(views=1, exclude_self=False, num_negatives=10),
    "brcd": lambda: BRCD(num_clusters=4, restarts=2),
    "brcd_release": lambda: ReleasedBRCD(num_clusters=4, restarts=2),
}
WITH_MEMORY = ("crd", "crd_label", "crd_pseudo_label", "crcd", "packd", "packd_release")
RELATIONS = ("sp", "rkd", "pkt", "sskd")


def ready(name, generator):
    """A method that has seen its sizes and its training split."""
    torch.manual_seed(0)
    method = METHODS[name]()
    method.setup(IMAGES, BITS, 4)
    method.prepare(random_codes(IMAGES, BITS, generator), torch.arange(IMAGES) % 4)
    return method


def make_batch(generator, images=12, positives=3):
    def student(*shape):
        return torch.randn(*shape, BITS, generator=generator, requires_grad=True)

    def teacher(*shape):
        return random_codes(images, BITS * max(1, *shape[1:], 1), generator).float().view(*shape, BITS)

    return KDInput(
        student=student(images),
        teacher=teacher(images),
        index=torch.randperm(IMAGES, generator=generator)[:images],
        teacher_view=teacher(images),
        student_rotations=student(images, 4),
        teacher_rotations=teacher(images, 4),
        student_positives=student(images, positives),
        teacher_positives=teacher(images, positives),
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_with_a_student(tmp_path, splits, name, recwarn):
    method = METHODS[name]()
    method.setup(len(splits.train), BITS, 4)
    module = distillation(method)
    extras = Extras(method.rotation_views, method.num_positives)
    before = copy.deepcopy(module.network.state_dict())
    teacher = copy.deepcopy(module.teacher.state_dict())
    trainer = make_trainer(tmp_path, epochs=2, module=module)
    trainer.fit(module, datamodule=make_datamodule(splits, extras=extras))
    assert any(not torch.equal(before[key], value) for key, value in module.network.state_dict().items())
    assert all(torch.equal(teacher[key], value) for key, value in module.teacher.state_dict().items())
    assert not module.teacher.training
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
    assert not [
        warning for warning in recwarn if "batch_size" in str(warning.message)
    ]  # batches hold None where not asked
    if method.needs:
        assert any(key.startswith("train/kd_") for key in trainer.callback_metrics)


@pytest.mark.parametrize("name", METHODS)
def test_only_student_codes_have_gradients_and_they_are_finite(name, generator):
    method, batch = ready(name, generator), make_batch(generator)
    terms = method(batch).terms
    if name == "none":
        assert not terms
        return
    sum(terms.values()).backward()
    used = [
        value for value in (batch.student, batch.student_rotations, batch.student_positives) if value.grad is not None
    ]
    assert used
    assert all(bool(value.grad.isfinite().all()) and value.grad.abs().sum() > 0 for value in used)
    assert not batch.teacher.requires_grad


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_heads_move_after_one_step(name, generator):
    """The release never trains them: its optimiser gets the student's head alone."""
    method = ready(name, generator)
    before = {key: value.clone() for key, value in method.named_parameters()}
    assert before
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    sum(method(make_batch(generator)).terms.values()).backward()
    optimizer.step()
    assert all(not torch.equal(before[key], value) for key, value in method.named_parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_step_equals_the_uninterrupted_one(name, generator):
    batches = [make_batch(generator) for _ in range(4)]

    def fresh():
        return ready(name, torch.Generator().manual_seed(7))

    def step(method, optimizer, batch):
        terms = method(batch).terms
        loss = sum(terms.values()) if terms else torch.zeros((), requires_grad=True)
        if optimizer is not None:
            optimizer.zero_grad()
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        return loss.item()

    def adam(method):
        parameters = list(method.parameters())
        return torch.optim.Adam(parameters, lr=1e-2) if parameters else None

    whole = fresh()
    optimizer = adam(whole)
    losses = [step(whole, optimizer, batch) for batch in batches[:3]]
    saved = copy.deepcopy((whole.state_dict(), optimizer and optimizer.state_dict()))
    losses.append(step(whole, optimizer, batches[3]))

    resumed = fresh()
    resumed.load_state_dict(saved[0])
    other = adam(resumed)
    if other is not None:
        other.load_state_dict(saved[1])
    assert step(resumed, other, batches[3]) == losses[3]
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", [*RELATIONS, "kl", "brcd"])
def test_relations_do_not_see_a_signed_permutation_of_the_students_bits(name, generator):
    method, batch = ready(name, generator), make_batch(generator)
    order = torch.randperm(BITS, generator=generator)
    signs = torch.randint(0, 2, (BITS,), generator=generator) * 2.0 - 1
    moved = batch._replace(
        student=batch.student[..., order] * signs, student_rotations=batch.student_rotations[..., order] * signs
    )
    values = [sum(method(each).terms.values()).item() for each in (batch, moved)]
    same = values[0] == pytest.approx(values[1], rel=1e-4, abs=1e-7)
    assert same == (name in RELATIONS)


@pytest.mark.parametrize("name", METHODS)
def test_the_weight_is_a_factor(name, generator):
    if name == "none":
        return
    one = ready(name, generator)
    three = copy.deepcopy(one)
    three.weight = 3.0
    batch = make_batch(generator)
    values = [sum(method(batch).terms.values()).item() for method in (one, three)]
    assert values[1] == pytest.approx(3 * values[0], rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_only_methods_that_say_so_use_labels(name):
    assert METHODS[name]().uses_labels == (name in ("crd_label", "packd", "packd_release"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_on_a_gpu_under_autocast(tmp_path, splits, name):
    method = METHODS[name]()
    method.setup(len(splits.train), BITS, 4)
    module = distillation(method)
    extras = Extras(method.rotation_views, method.num_positives)
    trainer = make_trainer(tmp_path, epochs=2, module=module, accelerator="cuda", devices=1, precision="16-mixed")
    trainer.fit(module, datamodule=make_datamodule(splits, extras=extras))
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
