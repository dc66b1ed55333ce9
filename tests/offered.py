"""The distillation methods and hashing models that conf/ offers, with options for tiny data.

No test lists them: a new YAML is tested by what holds for all.
"""

from dataclasses import replace
from functools import cache

import torch
from omegaconf import OmegaConf

from brcd_lightning.config import CONFIG_DIR, build
from brcd_lightning.distillation.base import KDInput
from conftest import random_codes
from test_configs import composed

BITS, IMAGES = 16, 64
# The largest values on tiny data, by the name of the option, whichever method or model has it.
LIMITS = {
    "num_negatives": 10,
    "num_clusters": 4,
    "n_init": 2,
    "dim": 8,
    "latent_features": 8,
    "hidden_features": 12,
    "queue_size": 32,
    "queue_start": 0,
}


def own(folder):
    """Names of the YAMLs of a folder; without those that build on another one, as ablations do."""
    paths = sorted((CONFIG_DIR / folder).glob("*.yaml"))
    return [path.stem for path in paths if "defaults" not in OmegaConf.load(path)]


HASHING_MODELS = own("hashing_model")
KD_METHODS = own("kd_method")
# By name: the overrides that choose a method as in the paper and, where its authors' code differs, as released.
KD_CASES = {name: (f"kd_method={name}",) for name in KD_METHODS}
KD_CASES |= {
    f"{name}_release": (f"kd_method={name}", "profile=release")
    for name in own("mechanics/release")
    if name in KD_METHODS
}
# More options of methods that have other parts for them.
KD_CASES |= {
    "crd_label": ("kd_method=crd", "kd_method.negatives=label"),
    "crd_pseudo_label": ("kd_method=crd", "kd_method.negatives=pseudo_label"),
    "packd_embedded": ("kd_method=packd", "kd_method.dim=8"),
    "sskd_mlp": ("kd_method=sskd", "kd_method.heads=mlp"),
}


@cache
def configuration(*overrides):
    return composed(list(overrides))


def small(node, limits=LIMITS):
    """The options of a method or model with numbers above a limit lowered to it."""
    numbers = {key: node[key] for key in limits if isinstance(node.get(key), int)}
    return OmegaConf.merge(node, {key: min(number, limits[key]) for key, number in numbers.items()})


def make_method(name):
    return build(small(configuration(*KD_CASES[name]).kd_method))


def make_model(name, in_features, bits, limits=LIMITS):
    cfg = configuration(f"hashing_model={name}")
    return build(small(cfg.hashing_model, limits), in_features=in_features, bits=bits, head=cfg.student.head)


def ready(name, generator):
    """A method that has seen its sizes and its training split."""
    torch.manual_seed(0)
    method = make_method(name)
    method.setup(IMAGES, BITS, 4)
    method.prepare(random_codes(IMAGES, BITS, generator), torch.arange(IMAGES) % 4)
    return method


def make_batch(generator, images=12, positives=3):
    """A batch with every field that a method can ask for; all codes of the student require a gradient."""

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


def sees_a_signed_permutation(name, generator):
    """Whether the loss changes when the bits of all codes of the student are permuted and some are flipped."""
    method, batch = ready(name, generator), make_batch(generator)
    order = torch.randperm(BITS, generator=generator)
    signs = torch.randint(0, 2, (BITS,), generator=generator) * 2.0 - 1
    student, rotations = (codes[..., order] * signs for codes in (batch.student, batch.student_rotations))
    moved = replace(batch, student=student, student_rotations=rotations)
    before, after = (sum(method(each).terms.values()) for each in (batch, moved))
    return not torch.allclose(before, after, rtol=1e-4, atol=1e-7)
