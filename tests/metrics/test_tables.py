import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from brcd_lightning.errors import InputError
from brcd_lightning.metrics import (
    AlignmentMetric,
    CodeTable,
    RetrievalMetric,
    ValueTable,
    individual_sample_distance,
    mean_average_precision,
    neighbor_relevance_accuracy,
)
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


def test_value_table_sorts_and_drops_doubles(generator):
    values, table = torch.randn(6, 8, generator=generator), ValueTable()
    for index in ([4, 1], [0, 5, 4], [2, 3, 0]):
        table.update(torch.tensor(index), values[index])
    assert torch.equal(table.compute(), values)


def material():
    generator = torch.Generator().manual_seed(4)
    codes = {side: random_codes(n, 8, generator).to(torch.int8) for side, n in (("query", 7), ("database", 31))}
    labels = {side: torch.randint(0, 3, (len(rows),), generator=generator) for side, rows in codes.items()}
    return codes, labels


def values_on_rank(rank, world):
    """Values of three metrics when the rows come in batches to `world` ranks, the last ones padded with first rows."""
    codes, labels = material()
    retrieval = RetrievalMetric(mean_average_precision, k=9, ties="expected")
    distance = AlignmentMetric(individual_sample_distance)
    neighbors = AlignmentMetric(neighbor_relevance_accuracy, with_labels=True, k=3)
    for side, rows in codes.items():
        padded = torch.arange(-(-len(rows) // world) * world) % len(rows)
        for batch in padded[rank::world].split(4):
            retrieval.update(side, batch, rows[batch], labels[side][batch])
            if side == "database":
                distance.update(batch, rows[batch], -rows.flip(0)[batch])
                neighbors.update(batch, rows[batch], rows.roll(1, 1)[batch], labels[side][batch])
    return [metric.compute().item() for metric in (retrieval, distance, neighbors)]


def expected_values():
    codes, labels = material()
    rows = codes["database"]
    return [
        mean_average_precision(codes["query"], rows, labels["query"], labels["database"], 9, ties="expected").item(),
        individual_sample_distance(rows, -rows.flip(0)).item(),
        neighbor_relevance_accuracy(rows, rows.roll(1, 1), labels["database"], 3).item(),
    ]


def test_shells_return_what_their_functions_return():
    assert values_on_rank(0, 1) == expected_values()


def on_rank(rank, world, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(torch.tensor(values_on_rank(rank, world), dtype=torch.float64), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    mp.spawn(on_rank, args=(2, tmp_path), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True).tolist() == expected_values()


def test_an_unknown_side_is_refused():
    metric = RetrievalMetric(mean_average_precision, k=9)
    with pytest.raises(InputError, match="side must be one of query, database, got 'queries'"):
        metric.update("queries", torch.arange(1), torch.ones(1, 8), torch.zeros(1))


def test_rows_without_an_index_are_refused():
    with pytest.raises(InputError, match="got 3 indices for 4, 4 rows"):
        CodeTable().update(torch.arange(3), torch.ones(4, 8), torch.zeros(4))


def test_a_table_without_rows_is_refused(generator):
    with pytest.raises(InputError, match="there are no rows of the rows to compute from; call update first"):
        CodeTable().compute()
    metric = RetrievalMetric(mean_average_precision, k=3)
    metric.update("query", torch.arange(2), random_codes(2, 16, generator), torch.arange(2))
    with pytest.raises(InputError, match="there are no rows of the database to compute from"):
        metric.compute()
