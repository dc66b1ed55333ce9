import pytest
import torch

from brcd_lightning.data.datamodule import EvalBatch
from brcd_lightning.metrics import mean_average_precision
from brcd_lightning.metrics.declared import REPORTED, VALIDATED
from brcd_lightning.training.evaluator import IN_TRAINING, Pair, RetrievalEvaluator
from conftest import random_codes

PAIRS = {"sshp": Pair(IN_TRAINING, IN_TRAINING), "ashp": Pair(IN_TRAINING, "teacher")}
LABELS = {"query": torch.arange(6) % 3, "database": torch.arange(20) % 3}


class Fixed:
    """An encoder that returns the code at each "image", and counts how many it was asked for."""

    def __init__(self, codes):
        self.codes, self.asked = codes, 0

    def encode(self, images):
        self.asked += len(images)
        return self.codes[images]


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
def test_scores_are_those_of_whole_splits(encoders, stage):
    evaluator = RetrievalEvaluator({"val": PAIRS, "test": PAIRS}, k=7)
    found = run(evaluator, stage, encoders)
    metrics = VALIDATED if stage == "val" else REPORTED
    assert list(found.scores) == [f"{stage}/{metric.key(pair)}" for pair in PAIRS for metric in metrics]
    for name, pair in PAIRS.items():
        expected = mean_average_precision(
            encoders[pair.query].codes[:6], encoders[pair.database].codes[6:], *LABELS.values(), 7
        )
        assert found.scores[f"{stage}/map_{name}"].mean() == expected
    assert set(found.codes) == {"student_query", "student_database", "teacher_database"}
    assert torch.equal(found.codes["teacher_database"][0], encoders["teacher"].codes[6:])


def test_only_the_encoder_in_training_is_asked_again(encoders):
    evaluator = RetrievalEvaluator({"val": PAIRS, "test": PAIRS}, k=7)
    first = run(evaluator, "val", encoders)
    encoders[IN_TRAINING].codes = -encoders[IN_TRAINING].codes
    second = run(evaluator, "val", encoders)
    assert (encoders[IN_TRAINING].asked, encoders["teacher"].asked) == (2 * 26, 20)
    assert torch.equal(second.codes["student_query"][0], -first.codes["student_query"][0])
    run(evaluator, "test", encoders)
    assert encoders["teacher"].asked == 40, "another split"
