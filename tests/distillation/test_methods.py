"""What holds for every distillation method that conf/kd_method offers."""

import copy
from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf

from both_devices import OTHERS, REFERENCE, TOLERANCE, difference, distillation as outcome_on
from brcd_lightning.config import CONFIG_DIR, build
from brcd_lightning.data.extra_views import Extras
from brcd_lightning.errors import InputError
from brcd_lightning.training.closed_form_fit import ClosedFormFit
from conftest import make_datamodule, random_codes
from offered import BITS, IMAGES, KD_CASES, KD_METHODS, configuration, make_batch, make_method, ready, small
from small_training import distillation, make_trainer

MIXED = "16-mixed" if torch.cuda.is_available() else "bf16-mixed"


@pytest.fixture(params=KD_CASES)
def name(request):
    return request.param


def fit(name, tmp_path, splits, **options):
    """Trains a student, or solves for its head; returns the module and the trainer."""
    method = make_method(name)
    method.setup(len(splits.train), BITS, 4)
    module = distillation(method)
    if method.solves:
        options = {"callbacks": [ClosedFormFit()], **options, "limit_val_batches": 1.0}
    extras = Extras(method.rotation_views, method.num_positives)
    before = copy.deepcopy(module.network.state_dict())
    teacher = copy.deepcopy(module.teacher.state_dict())
    trainer = make_trainer(tmp_path, module=module, **options)
    run = partial(trainer.validate, verbose=False) if method.solves else trainer.fit
    run(module, datamodule=make_datamodule(splits, extras=extras))
    assert any(not torch.equal(before[key], value.cpu()) for key, value in module.network.state_dict().items())
    assert all(torch.equal(teacher[key], value.cpu()) for key, value in module.teacher.state_dict().items())
    assert all(value.isfinite() for value in trainer.callback_metrics.values())
    return module, trainer


def test_every_method_trains_with_a_student(name, tmp_path, splits, recwarn):
    module, trainer = fit(name, tmp_path, splits, epochs=2)
    assert not module.teacher.training
    assert not [
        warning for warning in recwarn if "batch_size" in str(warning.message)
    ]  # batches hold None where not asked
    if module.kd_method.needs and not module.kd_method.solves:
        assert any(key.startswith("train/kd_") for key in trainer.callback_metrics)


def test_every_method_trains_in_half_precision(name, tmp_path, splits):
    limits = {"limit_train_batches": 2, "limit_val_batches": 0}
    fit(name, tmp_path, splits, precision=MIXED, accelerator="auto", devices=1, **limits)


def test_only_student_codes_have_gradients_and_they_are_finite(name, generator):
    method, batch = ready(name, generator), make_batch(generator)
    terms = method(batch).terms
    assert bool(terms) == (bool(method.needs) and not method.solves)
    if not terms:
        return
    sum(terms.values()).backward()
    used = [
        value for value in (batch.student, batch.student_rotations, batch.student_positives) if value.grad is not None
    ]
    assert used
    assert all(bool(value.grad.isfinite().all()) and value.grad.abs().sum() > 0 for value in used)
    assert not batch.teacher.requires_grad


@pytest.mark.parametrize("other", OTHERS)
def test_a_gpu_gives_the_same_losses_gradients_and_memories(name, other):
    expected = outcome_on(name, **REFERENCE)
    assert any(value.abs().sum() > 0 for value in expected.values()) or name == "none"
    assert difference(outcome_on(name, **other), expected) < TOLERANCE


def test_a_method_sees_only_what_it_asks_for(name, generator):
    """Fields of a batch and labels that `needs` does not name may be missing."""
    codes, labels = random_codes(IMAGES, BITS, generator), torch.arange(IMAGES) % 4
    whole, batch = ready(name, generator), make_batch(generator)
    whole.prepare(codes, labels)
    sparing = copy.deepcopy(whole)
    sparing.prepare(codes, labels if "training_labels" in whole.needs else None)
    needs = {field.name: field.name.rpartition("_")[2] for field in fields(batch) if field.default is None}
    needs["teacher_view"] = "teacher_view"
    missing = [field for field, need in needs.items() if need not in whole.needs]
    outputs = [whole(batch), sparing(replace(batch, **dict.fromkeys(missing)))]
    values = [{key: value.item() for key, value in {**o.terms, **o.diagnostics}.items()} for o in outputs]
    assert values[0] == values[1]


def test_parameters_move_where_they_train_and_nowhere_else(name, generator):
    """The release never trains embeddings: its optimiser gets the student's head alone."""
    method = ready(name, generator)
    before = {key: value.clone() for key, value in method.named_parameters()}
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    if not trained:
        return
    optimizer = torch.optim.Adam(trained, lr=1e-3)
    sum(method(make_batch(generator)).terms.values()).backward()
    optimizer.step()
    for key, value in method.named_parameters():
        assert torch.equal(before[key], value) != value.requires_grad, key


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


def test_the_weight_is_a_factor(name, generator):
    one = ready(name, generator)
    three = copy.deepcopy(one)
    three.weight = 3.0
    batch = make_batch(generator)
    values = [sum(term.item() for term in method(batch).terms.values()) for method in (one, three)]
    assert values[1] == pytest.approx(3 * values[0], rel=1e-5)


@pytest.mark.parametrize("method", KD_METHODS)
def test_the_yaml_says_whether_its_method_uses_labels(method):
    says = "Uses labels" in (CONFIG_DIR / "kd_method" / f"{method}.yaml").read_text()
    assert make_method(method).uses_labels == says


# Another value of each option. Where the option has an effect only beside others, those come with both values.
OTHER = {
    "alpha": 0.4,
    "angle_weight": 7.0,
    "delta": 0.2,
    "dim": 6,
    "distance_weight": 7.0,
    "drop_false_negatives": False,
    "dynamic_alpha": False,
    "eps": 0.01,
    "exclude_self": False,
    "heads": "mlp",
    "iterations": 1,
    "kmeans": "faiss",
    "lambda_": 0.5,
    "mask_source": "expectations",
    "min_bits": 9,
    "momentum": 0.1,
    "n_init": 1,
    "negatives": "pseudo_label",
    "num_clusters": 3,
    "num_negatives": 9,
    "offset_in_denominator": False,
    "ratio": 0.1,
    "rotation_views": "independent",
    "seed": 1,
    "skip_self_anchor": False,
    "target": "logits",
    "tau": 0.7,
    "temperature": 0.9,
    "tolerance": 10.0,
    "train_heads": False,
    "use_mask": False,
    "variant": "per_sample",
    "views": 2,
    "warmup_epochs": 0,
    "weight": 3.0,
}
BESIDE = {
    ("brcd", "min_bits"): {"delta": 0.9},
    ("brcd", "n_init"): {"num_clusters": 9},
    ("brcd", "kmeans"): {"num_clusters": 9},
    ("packd", "momentum"): {"warmup_epochs": 0},
    **{(name, "num_clusters"): {"negatives": "pseudo_label"} for name in ("crd", "crcd", "packd")},
}
OPTIONS = [(name, key) for name in KD_METHODS for key in configuration(*KD_CASES[name]).kd_method if key != "_target_"]


def outcome(name, **options):
    """Everything that a method asks for, prepares and computes in six steps of training, as one tuple."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    method = build(OmegaConf.merge(small(configuration(*KD_CASES[name]).kd_method), options))
    method.setup(IMAGES, BITS, 4)
    kept = method.prepare(random_codes(IMAGES, BITS, generator), torch.arange(IMAGES) % 4)
    found = [sorted(method.needs), method.rotation_views, method.num_positives]
    found += [(key, value.tolist()) for key, value in sorted(kept.items())]
    if method.solves:
        return *found, method.solve(*(torch.randn(IMAGES, d, generator=generator) for d in (8, BITS))).weight.tolist()
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1) if trained else None
    for _ in range(6):
        terms, diagnostics = method(make_batch(generator))
        found.append({key: value.item() for key, value in {**terms, **diagnostics}.items()})
        if optimizer is not None:
            sum(terms.values()).backward()
            optimizer.step()
    return tuple(found)


@pytest.mark.parametrize(("method", "option"), [*OPTIONS, ("brcd_release", "mask_source")])
def test_every_option_has_an_effect(method, option):
    beside = BESIDE.get((method, option), {})
    usual = outcome(method, **beside)
    assert outcome(method, **beside) == usual  # nothing but the option makes a difference
    assert outcome(method, **beside, **{option: OTHER[option]}) != usual


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        *((name, {"dim": 2 * 10**9}, r"kd_method\.dim=2000000000 needs 1[56]") for name in ("crd", "crcd")),
        ("packd", {"dim": 2 * 10**9}, r"kd_method\.dim=2000000000 needs 8"),
        ("packd", {"num_negatives": 999_999, "dim": 64}, r"kd_method\.num_negatives=999999 needs 5"),
        ("brcd", {"num_clusters": 900_000}, r"kd_method\.num_clusters=900000 needs 7\.2"),
        ("packd", {"negatives": "pseudo_label", "num_clusters": 900_000}, r"kd_method\.num_clusters=900000 needs 7\.2"),
    ],
)
def test_a_size_that_no_memory_holds_is_refused(method, options, message):
    built = build(OmegaConf.merge(configuration(f"kd_method={method}").kd_method, options))
    with pytest.raises(InputError, match=rf"^{message}.* of memory, this machine has .*; lower it\.$"):
        built.setup(1_000_000, BITS, 50)


@pytest.mark.parametrize("method", ["crd", "packd"])
def test_more_clusters_than_images_are_refused_before_training(method):
    options = {"negatives": "pseudo_label", "num_clusters": 65, "num_negatives": 9}
    built = build(OmegaConf.merge(configuration(f"kd_method={method}").kd_method, options))
    with pytest.raises(InputError, match=r"^kd_method\.num_clusters must be at most .*, got 65 clusters for 64 images"):
        built.setup(IMAGES, BITS, 4)
