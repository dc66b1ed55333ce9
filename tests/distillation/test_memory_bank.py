import torch

from brcd_lightning.distillation.memory_bank import Embedding, bank_scores, random_bank, remember


def test_memory_moves_towards_new_rows_and_keeps_the_last_of_an_image():
    bank = torch.eye(4, dtype=torch.float64)
    rows = torch.tensor([[0.0, 0, 0, 1], [0, 0, 1, 0]], dtype=torch.float64)
    remember(bank, torch.tensor([1, 1]), rows, 0.5)
    assert torch.allclose(bank[1], torch.tensor([0, 1, 1, 0], dtype=torch.float64) / 2**0.5)
    assert torch.equal(bank[[0, 2, 3]], torch.eye(4, dtype=torch.float64)[[0, 2, 3]])


def test_scores_do_not_depend_on_the_size_of_the_bank(generator):
    embeddings = torch.randn(5, 6, generator=generator, requires_grad=True)
    bank = random_bank(100, 6, normalise=False)
    assert bank.abs().max() <= 1 / 2**0.5
    rows = torch.randint(100, (5, 4), generator=generator)
    gathered = bank_scores(embeddings, bank, rows)
    whole = bank_scores(embeddings, bank[:40], rows % 40)
    expected = torch.einsum("md,mkd->mk", embeddings, bank[rows])
    assert torch.allclose(gathered, expected, atol=1e-6)
    assert torch.allclose(whole, torch.einsum("md,mkd->mk", embeddings, bank[rows % 40]), atol=1e-6)
    bank.zero_()
    (gathered.sum() + whole.sum()).backward()  # the memory may change before the backward pass
    assert embeddings.grad.abs().sum() > 0


def test_untrained_embeddings_stay_out_of_the_optimiser():
    assert all(p.requires_grad for p in Embedding(4, 3).parameters())
    assert not any(p.requires_grad for p in Embedding(4, 3, trains=False).parameters())
