import torch

from brcd_lightning.data.fake import fake


def test_images_of_a_class_are_alike():
    splits = fake(num_classes=3, images_per_class=20, train_per_class=8)
    assert splits.sizes() == {"train": 24, "query": 15, "database": 45, "val_query": 15, "val_database": 30}
    pixels, labels = splits.source.pixels.float(), splits.source.labels
    means = torch.stack([pixels[labels == label].mean(dim=0) for label in range(3)])
    distances = torch.cdist(pixels.flatten(1), means.flatten(1))
    assert torch.equal(distances.argmin(dim=1), labels)


def test_the_seed_alone_decides():
    assert fake(seed=1).fingerprint == fake(seed=1).fingerprint != fake(seed=2).fingerprint
