import torch

from brcd_lightning.metrics import CodeTable
from conftest import random_codes


def test_code_table_sorts_and_drops_doubles(generator):
    codes, labels = random_codes(6, 8, generator).to(torch.int8), torch.arange(6)
    table = CodeTable()
    for index in ([4, 1], [0, 5, 4], [2, 3, 0]):  # 4 and 0 twice, as a padding sampler would
        rows = torch.tensor(index)
        table.update(rows, codes[rows], labels[rows])
    found, found_labels = table.compute()
    assert torch.equal(found, codes)
    assert torch.equal(found_labels, labels)
