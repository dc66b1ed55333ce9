import pytest
import torch
import torch.nn.functional as F
from test_crd import load

from brcd_lightning.distillation.crcd import CRCD, Relations, precise_relations
from brcd_lightning.distillation.crd import nce_loss


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


def direct_loss(embeddings, bank, rows, log_z, temperature, skip):
    """The definition, from explicit differences."""
    losses = []
    for a, anchor in enumerate(bank[rows[:, 0]]):
        directions = F.normalize(embeddings - anchor + 1e-6, dim=1)
        keys = F.normalize(bank[rows] - anchor + 1e-6, dim=2, eps=0)
        scores = torch.einsum("md,mkd->mk", directions, keys) / temperature
        counted = torch.arange(len(rows)) != a if skip else slice(None)
        losses.append(nce_loss(scores, log_z, len(bank))[counted])
    return torch.cat(losses).mean()


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("near", ["rows", "rows and embeddings"])
@pytest.mark.parametrize("spread", [0.5, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 0.0])
def test_single_precision_equals_the_definition_where_vectors_nearly_coincide(skip, near, spread, generator):
    images, dim = 60, 32
    groups, index = torch.arange(images) % 4, torch.randperm(images, generator=generator)[:12]
    centres = torch.randn(4, dim, generator=generator)
    around = lambda group: F.normalize(centres[group] + spread * torch.randn(len(group), dim, generator=generator))  # noqa: E731
    bank = around(groups)
    embeddings = around(groups[index]) if near != "rows" else F.normalize(torch.randn(12, dim, generator=generator))
    rows = torch.cat([index[:, None], torch.randint(images, (12, 20), generator=generator)], dim=1)
    single, double = embeddings.requires_grad_(), embeddings.detach().double().requires_grad_()
    method = CRCD(dim=dim, num_negatives=20, skip_self_anchor=skip)
    method.setup(images, 16, 1)
    loss = method.side_loss(single, bank, rows, torch.tensor(5.0))
    expected = direct_loss(double, bank.double(), rows, torch.tensor(5.0).double(), method.temperature, skip)
    loss.backward()
    expected.backward()
    assert loss.dtype == single.grad.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    assert (single.grad.double() - double.grad).norm() <= 1e-3 * double.grad.norm()


def test_double_precision_is_used_only_where_it_is_needed(generator):
    bank = F.normalize(torch.randn(40, 64, generator=generator))
    embeddings = F.normalize(torch.randn(5, 64, generator=generator))
    rows = torch.randperm(40, generator=generator)[:30].view(5, 6)
    assert precise_relations(embeddings, bank, rows).bank.dtype == torch.float32
    assert precise_relations(bank[rows[:, 0]] + 0.01, bank, rows).bank.dtype == torch.float64
    bank[rows[0, 1]] = bank[rows[2, 0]]
    assert precise_relations(embeddings, bank, rows).bank.dtype == torch.float64


def test_the_first_batch_sets_the_partition_where_rows_coincide(generator):
    bank = F.normalize(torch.randn(3, 16, generator=generator))[torch.arange(30) % 3]
    embeddings = F.normalize(torch.randn(6, 16, generator=generator))
    rows = torch.randint(30, (6, 8), generator=generator)
    rows[:, 0] = torch.arange(6)
    partitions = []
    for dtype in (torch.float32, torch.float64):
        method = CRCD(dim=16, num_negatives=7)
        method.setup(30, 16, 1)
        log_z = torch.tensor(float("nan"), dtype=dtype)
        method.side_loss(embeddings.to(dtype), bank, rows, log_z)
        partitions.append(log_z.item())
    assert partitions[0] == pytest.approx(partitions[1], rel=1e-5)


@pytest.mark.parametrize("skip", [False, True])
def test_gradient_is_exact(skip, generator):
    method = CRCD(dim=4, num_negatives=5, temperature=0.5, skip_self_anchor=skip)
    method.setup(30, 4, 1)
    bank = F.normalize(torch.randn(30, 4, generator=generator, dtype=torch.float64), dim=1)
    embeddings = torch.randn(11, 4, generator=generator, dtype=torch.float64, requires_grad=True)  # two parts
    rows = method.negatives(torch.randperm(30, generator=generator)[:11])
    log_z = torch.tensor(3.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: method.side_loss(f, bank, rows, log_z), embeddings)
