import json

import pytest
import torch

from brcd_lightning.backbones import small_backbone
from brcd_lightning.cli import main
from brcd_lightning.cli.latency_measurement import Settings, Timer, encode_latency, search_latency
from brcd_lightning.errors import InputError
from brcd_lightning.report.latencies import read_latency

CPU = torch.device("cpu")
QUICK = ["latency.repeats=2", "latency.batch_sizes=[1,4]", "latency.database_sizes=[500]", "latency.k=[10,1000]"]


def run(tmp_path, *overrides):
    return main.run(["latency", *QUICK, f"output_dir={tmp_path}", "latency.device=cpu", *overrides])


def test_the_record_says_what_was_measured_and_on_what(tmp_path, capsys):
    assert run(tmp_path) == 0
    record = read_latency(tmp_path / "latency.json")
    assert [(row["backbone"], row["batch"]) for row in record["encode"]] == [
        ("small_wide", 1), ("small_wide", 4), ("small", 1), ("small", 4),
    ]  # fmt: skip
    assert [(row["n"], row["k"], row["batch"]) for row in record["search"]] == [(500, 10, 1), (500, 10, 4)]
    assert all(0 < row["ms_p10"] <= row["ms"] <= row["ms_p90"] for part in ("encode", "search") for row in record[part])
    assert record["threads"]["torch"] == torch.get_num_threads()
    assert record["device"]
    text = capsys.readouterr().out
    assert "small_wide" in text
    assert f"Results: {tmp_path / 'latency.json'}" in text


def test_named_backbones_are_measured_without_their_weights(tmp_path):
    options = ["latency.backbones=[mobilenet_v2]", "dataset=fake", "transform.size=32", "latency.database_sizes=[10]"]
    assert run(tmp_path, *options) == 0
    record = json.loads((tmp_path / "latency.json").read_text())
    assert {row["backbone"] for row in record["encode"]} == {"mobilenet_v2"}
    assert record["encode"][0]["parameters"] == 2_223_872  # without its classifier
    assert record["options"]["image_size"] == 32


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("latency.backbones=[vitb16]", "Did you mean 'vit_b_16'?"),
        ("latency.backbones=[timm]", "For another timm network"),
        ("latency.backbones=resnet18", "must be a list of 1 to 100, each item text"),
        ("latency.batch_sizes=[]", "must be a list of 1 to 100, each item a positive integer, got []"),
        ("latency.k=[1000]", "asks for more than latency.database_sizes=[500] hold"),
        ("latency.file=.", "must be the path of a file"),
        ("latency.k=[0]", "latency.k must be a list of 1 to 100, each item a positive integer, got [0]"),
        ("latency.repeats=1", "latency.repeats must be an integer of at least 2"),
        ("+latency.speed=1", "unexpected keyword argument 'speed'"),
        ("latency.repeat=1", "Did you mean"),
        ("bitss=8", "Did you mean 'bits'?"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, override, words):
    assert run(tmp_path, override) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "latency.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="torch sees no GPU here"):
        Settings(None, "cuda", [1], [10], [1], 2, 1.0, 0, "f")


def test_slow_calls_are_repeated_less(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("brcd_lightning.cli.latency_measurement.time.perf_counter", lambda: float(next(clock)))
    calls = []
    facts = Timer(20, 4.5, CPU)(lambda: calls.append(1))
    assert len(calls) == 3 + 5  # three are not timed; the others take a second each
    assert facts == {"ms": 1000.0, "ms_p10": 1000.0, "ms_p90": 1000.0, "repeats": 5}


def test_work_is_counted():
    timer = Timer(2, 1.0, CPU)
    (small,) = encode_latency("x", small_backbone([8], grid=1), 16, [2], timer)
    (large,) = encode_latency("x", small_backbone([8], grid=1), 32, [2], timer)
    assert large["gmacs"] == pytest.approx(4 * small["gmacs"])
    (found,) = search_latency(100, 5, 16, [3], timer, 0)
    assert (found["n"], found["k"], found["bits"], found["batch"]) == (100, 5, 16, 3)
