import pytest
import torch

from brcd_lightning.training import kept_scores as module
from brcd_lightning.training.kept_scores import KeptScores


@pytest.fixture
def inputs(generator):
    return {"codes": torch.randint(0, 2, (5, 8), generator=generator), "labels": torch.arange(5)}


def counted(calls):
    def compute():
        calls.append(1)
        return {"map": torch.full((5,), len(calls), dtype=torch.float64)}

    return compute


def test_equal_inputs_are_computed_once(tmp_path, inputs):
    calls = []
    for _ in range(2):  # another process begins afresh too
        scores = KeptScores(tmp_path / "kept").of(inputs, "20 map", counted(calls))
        assert scores["map"].tolist() == [1.0] * 5
    assert scores["map"].dtype == torch.float64
    assert len(list((tmp_path / "kept").iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "protocol"),
    [
        (lambda inputs: {}, "21 map"),
        (lambda inputs: {}, "20 map float"),
        (lambda inputs: {"codes": 1 - inputs["codes"]}, "20 map"),
        (lambda inputs: {"codes": inputs["codes"].int()}, "20 map"),
        (lambda inputs: {"codes": inputs["codes"].view(4, 10)}, "20 map"),
        (lambda inputs: {"codes": inputs["codes"].T.contiguous().T + 1}, "20 map"),
        (lambda inputs: {"values": torch.ones(5)}, "20 map"),
    ],
)
def test_other_inputs_are_computed_anew(tmp_path, inputs, change, protocol):
    calls = []
    KeptScores(tmp_path).of(inputs, "20 map", counted(calls))
    KeptScores(tmp_path).of(inputs | change(inputs), protocol, counted(calls))
    assert len(calls) == 2


def test_other_source_files_compute_anew(tmp_path, inputs, monkeypatch):
    calls = []
    KeptScores(tmp_path).of(inputs, "20 map", counted(calls))
    monkeypatch.setattr(module, "_source", lambda: "another")
    KeptScores(tmp_path).of(inputs, "20 map", counted(calls))
    assert len(calls) == 2


def test_a_broken_file_is_computed_anew(tmp_path, inputs):
    calls = []
    KeptScores(tmp_path).of(inputs, "20 map", counted(calls))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert KeptScores(tmp_path).of(inputs, "20 map", counted(calls))["map"].tolist() == [2.0] * 5
    KeptScores(tmp_path).of(inputs, "20 map", counted(calls))
    assert len(calls) == 2


def test_without_a_folder_nothing_is_kept(inputs):
    calls = []
    for _ in range(2):
        KeptScores(None).of(inputs, "20 map", counted(calls))
    assert len(calls) == 2
