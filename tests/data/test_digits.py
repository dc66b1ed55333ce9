import torch

from brcd_lightning.data.digits import digits


def test_the_bundled_digits():
    splits = digits()
    assert len(splits.source) == 1797
    assert splits.sizes() == {"train": 1000, "query": 300, "database": 1497, "val_query": 250, "val_database": 1247}
    image = splits.source.load(0)
    assert image.shape == (3, 16, 16)
    assert image.dtype == torch.uint8
    assert image.max() > 200
    assert digits().fingerprint == splits.fingerprint
