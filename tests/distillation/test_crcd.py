import pytest
import torch
import torch.nn.functional as F
from test_crd import load

from brcd_lightning.distillation.crcd import CRCD, Relations


@pytest.mark.parametrize(("skip", "key"), [(False, "crcd"), (True, "crcd_skip_self_anchor")])
def test_equals_the_vectors(kd_vectors, skip, key):
    vector = kd_vectors["v5_crd_crcd_n6_k2"]
    method = CRCD(dim=3, num_negatives=2, temperature=vector["T"], skip_self_anchor=skip)
    method, batch = load(method, vector)
    assert method(batch).terms["crcd"].item() == pytest.approx(vector["expected"][key], abs=1e-9)
    if not skip:
        assert method.log_z_student.exp().item() == pytest.approx(vector["expected"]["crcd_Z_s"], rel=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_inner_products_give_the_cosines_of_the_directions(dtype, tolerance, generator):
    bank = F.normalize(torch.randn(40, 8, generator=generator, dtype=dtype), dim=1)
    anchors = torch.tensor([3, 9, 0, 21, 14, 5, 39, 30, 1, 2])  # more than are worked on at a time
    embeddings = F.normalize(torch.randn(10, 8, generator=generator, dtype=dtype), dim=1)
    rows = torch.cat([anchors[:, None], torch.randint(40, (10, 6), generator=generator)], dim=1)
    rows[2, 4] = 9  # a negative that is another image's anchor
    directions = F.normalize(embeddings[:, None] - bank[anchors] + 1e-6, dim=2)  # (M, A, d)
    keys = F.normalize(bank[rows][:, None] - bank[anchors][None, :, None] + 1e-6, dim=3, eps=0)  # (M, A, K + 1, d)
    expected = (directions[:, :, None] * keys).sum(dim=3).transpose(0, 1)  # (A, M, K + 1)
    relations = Relations(bank, rows, anchors)
    *given, scale = relations.products(embeddings)
    along = torch.cat([product.clone() for _, product, *_ in relations.along(*given)])  # its tensors are used again
    assert torch.allclose(along * scale[:, :, None], expected, atol=tolerance)


@pytest.mark.parametrize("skip", [False, True])
def test_gradient_is_exact(skip, generator):
    method = CRCD(dim=4, num_negatives=5, temperature=0.5, skip_self_anchor=skip)
    method.setup(30, 4, 1)
    bank = F.normalize(torch.randn(30, 4, generator=generator, dtype=torch.float64), dim=1)
    embeddings = torch.randn(11, 4, generator=generator, dtype=torch.float64, requires_grad=True)  # two parts
    rows = method.negatives(torch.randperm(30, generator=generator)[:11])
    log_z = torch.tensor(3.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: method.side_loss(f, bank, rows, log_z), embeddings)
