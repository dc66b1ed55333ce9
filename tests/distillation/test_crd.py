import copy
from dataclasses import replace

import pytest
import torch

from brcd_lightning.distillation.base import KDInput
from brcd_lightning.distillation.crd import CRD
from brcd_lightning.errors import InputError


@pytest.fixture
def vector(kd_vectors):
    return kd_vectors["v5_crd_crcd_n6_k2"]


def load(method, vector):
    """Puts heads, banks and negatives of the vector into a method, in float64."""
    method.setup(num_images=6, bits=4, steps_per_epoch=1)
    method.double()
    for side, embedding in (("s", method.embed_student), ("t", method.embed_teacher)):
        weight, bias = vector["heads"][side]
        values = [torch.tensor(value, dtype=torch.float64) for value in (weight, bias)]
        embedding.load_state_dict(dict(zip(("weight", "bias"), values, strict=True)))
    method.bank_student.copy_(torch.tensor(vector["bank_s"], dtype=torch.float64))
    method.bank_teacher.copy_(torch.tensor(vector["bank_t"], dtype=torch.float64))
    rows = torch.tensor(vector["contrast_idx"])
    method.negatives.forward = lambda index: rows
    codes = [torch.tensor(vector[key], dtype=torch.float64) for key in ("s", "t")]
    return method, KDInput(*codes, torch.tensor(vector["idx"]))


def test_equals_the_vectors(vector):
    method, batch = load(CRD(dim=3, num_negatives=2, temperature=vector["T"], momentum=vector["momentum"]), vector)
    expected = vector["expected"]
    assert method(batch).terms["crd"].item() == pytest.approx(expected["crd"], abs=1e-9)
    assert method.log_z_student.exp().item() == pytest.approx(expected["Z_s"], rel=1e-9)
    assert method.log_z_teacher.exp().item() == pytest.approx(expected["Z_t"], rel=1e-9)
    for bank, name in ((method.bank_student, "bank_s_after"), (method.bank_teacher, "bank_t_after")):
        assert torch.allclose(bank, torch.tensor(expected[name], dtype=torch.float64), atol=1e-12)
    assert method(batch).terms["crd"].item() == pytest.approx(expected["crd_second_call_same_batch"], abs=1e-9)


def test_gradient_of_the_codes_is_exact(vector):
    method, batch = load(CRD(dim=3, num_negatives=2, temperature=0.5), vector)
    method(batch)  # sets Z, which is constant from then on

    def loss(student):
        return copy.deepcopy(method)(replace(batch, student=student)).terms["crd"]

    assert torch.autograd.gradcheck(loss, (0.7 * batch.student).requires_grad_())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": "labels"}, "negatives must be one of uniform, pseudo_label, label"),
        ({"momentum": 2}, "momentum must be in"),
        ({"temperature": 0}, "temperature must be a positive number"),
        ({"dim": 0}, "dim must be a positive integer"),
        ({"train_heads": "no"}, "train_heads must be true or false"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        CRD(**options)


def test_embeddings_train_unless_told_otherwise():
    for trains in (True, False):
        method = CRD(**({} if trains else {"train_heads": False}))
        method.setup(600, 8, 1)
        assert {parameter.requires_grad for parameter in method.parameters()} == {trains}


def test_only_label_negatives_use_labels():
    assert CRD(negatives="label").uses_labels
    assert not CRD().uses_labels
    assert not CRD(negatives="pseudo_label").uses_labels
