import pytest
import torch

from brcd_lightning.codes import hamming_distance
from brcd_lightning.data.datamodule import EvalBatch
from brcd_lightning.metrics import mean_average_precision
from brcd_lightning.metrics.declared import REPORTED, VALIDATED
from brcd_lightning.training import evaluator as module
from brcd_lightning.training.evaluator import IN_TRAINING, Pair, RetrievalEvaluator
from conftest import random_codes

PAIRS = {"sshp": Pair(IN_TRAINING, IN_TRAINING), "ashp": Pair(IN_TRAINING, "teacher")}
LABELS = {"query": torch.arange(6) % 3, "database": torch.arange(20) % 3}


class Fixed:
    """An encoder that returns the code at each "image", and counts how many it was asked for."""

    def __init__(self, codes):
        self.codes, self.asked, self.asked_for_values = codes, 0, 0
        self.values = codes * torch.linspace(0.2, 0.9, codes.numel())[torch.randperm(codes.numel())].view(codes.shape)

    def encode(self, images):
        self.asked += len(images)
        return self.codes[images]

    def encode_soft(self, images):
        self.asked_for_values += len(images)
        return self.encode(images), self.values[images]


def slow_average_precision(relevance):
    """AP of one ranked list of bools."""
    hits = [place for place, relevant in enumerate(relevance, 1) if relevant]
    return sum(number / place for number, place in enumerate(hits, 1)) / max(1, len(hits))


def slow_map(values, codes, order, k):
    """mAP@K of items in `order`, (Q, n) positions, sorted again by score in a loop."""
    scores = [[sum((v * c).tolist()) for c in codes[row]] for v, row in zip(values.double(), order, strict=True)]
    found = []
    for query, (row, of_row) in enumerate(zip(order.tolist(), scores, strict=True)):
        best = sorted(range(len(row)), key=lambda place: -of_row[place])[:k]
        labels = [int(LABELS["database"][row[place]]) for place in best]
        found.append(slow_average_precision([label == int(LABELS["query"][query]) for label in labels]))
    return sum(found) / len(found)


@pytest.fixture
def encoders(generator):
    return {name: Fixed(random_codes(26, 8, generator).to(torch.int8)) for name in (IN_TRAINING, "teacher")}


def run(evaluator, stage, encoders):
    """Feeds both splits in two batches each; queries are images 0 to 5, the database is behind them."""
    for side, first in (("query", 0), ("database", 6)):
        for index in torch.arange(len(LABELS[side])).chunk(2):
            evaluator.collect(stage, side, EvalBatch(index, index + first, LABELS[side][index]), encoders)
    return evaluator.evaluate(stage)


@pytest.mark.parametrize("stage", ["val", "test"])
@pytest.mark.parametrize("k", [1, 7])
def test_scores_are_those_of_whole_splits(encoders, stage, k):
    evaluator = RetrievalEvaluator({"val": PAIRS, "test": PAIRS}, k=k)
    found = run(evaluator, stage, encoders)
    metrics = VALIDATED if stage == "val" else REPORTED
    assert list(found.scores) == [f"{stage}/{metric.key(pair)}" for pair in PAIRS for metric in metrics]
    for name, pair in PAIRS.items():
        expected = mean_average_precision(
            encoders[pair.query].codes[:6], encoders[pair.database].codes[6:], *LABELS.values(), k
        )
        assert found.scores[f"{stage}/map_{name}"].mean() == expected
        if stage == "test":
            values, database = encoders[pair.query].values[:6], encoders[pair.database].codes[6:]
            whole = torch.arange(20).expand(6, 20)
            nearest = hamming_distance(encoders[pair.query].codes[:6], database).argsort(dim=1, stable=True)[
                :, : 10 * k
            ]
            by_score, rescored = (found.scores[f"test/map_{name}_{kind}"].mean() for kind in ("float", "rescored"))
            assert by_score.item() == pytest.approx(slow_map(values, database, whole, k))
            assert rescored.item() == pytest.approx(slow_map(values, database, nearest, k))
    assert set(found.codes) == {"student_query", "student_database", "teacher_database"}
    assert torch.equal(found.codes["teacher_database"][0], encoders["teacher"].codes[6:])


def test_queries_are_encoded_once_and_only_the_test_asks_for_values(encoders):
    evaluator = RetrievalEvaluator({"val": PAIRS, "test": PAIRS}, k=7)
    run(evaluator, "val", encoders)
    assert encoders[IN_TRAINING].asked_for_values == 0
    for _ in range(2):
        run(evaluator, "test", encoders)
    assert (encoders[IN_TRAINING].asked, encoders[IN_TRAINING].asked_for_values) == (3 * 26, 2 * 6)
    assert encoders["teacher"].asked_for_values == 0


def test_values_of_a_fixed_encoder_are_kept(encoders):
    evaluator = RetrievalEvaluator({"test": {"teacher": Pair("teacher", "teacher")}}, k=7)
    first, second = (run(evaluator, "test", encoders).scores for _ in range(2))
    assert encoders["teacher"].asked_for_values == 6
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_the_encoder_in_training_is_asked_again(encoders):
    evaluator = RetrievalEvaluator({"val": PAIRS, "test": PAIRS}, k=7)
    first = run(evaluator, "val", encoders)
    encoders[IN_TRAINING].codes = -encoders[IN_TRAINING].codes
    second = run(evaluator, "val", encoders)
    assert (encoders[IN_TRAINING].asked, encoders["teacher"].asked) == (2 * 26, 20)
    assert torch.equal(second.codes["student_query"][0], -first.codes["student_query"][0])
    run(evaluator, "test", encoders)
    assert encoders["teacher"].asked == 40, "another split"


def test_float_queries_can_be_left_out(encoders):
    evaluator = RetrievalEvaluator({"val": PAIRS, "test": PAIRS}, k=7, float_queries=False)
    found = run(evaluator, "test", encoders)
    assert not [name for name in found.scores if name.endswith(("_float", "_rescored"))]
    whole = run(RetrievalEvaluator({"val": PAIRS, "test": PAIRS}, k=7), "test", encoders)
    assert all(torch.equal(whole.scores[name], values) for name, values in found.scores.items())


def test_only_pairs_that_do_not_change_are_kept(encoders, tmp_path, monkeypatch):
    pairs = {"test": PAIRS | {"teacher": Pair("teacher", "teacher")}}
    expected = run(RetrievalEvaluator(pairs, k=7), "test", encoders).scores
    kept = RetrievalEvaluator(pairs, k=7, kept_scores=tmp_path)
    assert all(torch.equal(each, expected[name]) for name, each in run(kept, "test", encoders).scores.items())
    asked = []
    compute = module.reported_values
    monkeypatch.setattr(module, "reported_values", lambda **given: asked.append(1) or compute(**given))
    found = run(RetrievalEvaluator(pairs, k=7, kept_scores=tmp_path), "test", encoders).scores
    assert len(asked) == 2, "those of the student"
    assert list(found) == list(expected)
    assert all(torch.equal(each, expected[name]) for name, each in found.items())
