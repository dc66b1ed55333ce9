import json

import pytest
import torch
from safetensors import safe_open

from brcd_lightning.codes import unpack
from brcd_lightning.errors import InputError
from brcd_lightning.results.record import (
    Outcome,
    Subject,
    has_labels,
    make_results,
    notes,
    read_results,
    recorded_metric,
    save_codes,
    write_results,
)
from conftest import random_codes

LABELS = {"dataset": "digits", "hashing_model": "cibhash", "kd_method": "brcd", "profile": "paper", "paradigm": "sshp"}
LABELS |= {"teacher": "small_wide", "student": "small"}


def results(kd_method="brcd", seed=0, teacher="t0", sshp=0.5, **method):
    outcome = Outcome(
        metrics={"test/map_sshp": sshp, "test/map_ashp": 0.25, "test/map_teacher": 0.75},
        intervals={"test/map_sshp": (sshp - 0.1, sshp + 0.1)},
        validation=0.4567,
        epochs=3,
        timings={"student_seconds": 1.23456},
    )
    subject = Subject(
        coordinates=LABELS | {"kd_method": kd_method},
        method={"type": "x", **method},
        uses_labels=kd_method == "packd",
        seed=seed,
        config={"map_k": 100, "bits": 32, "seed": seed},
        sizes={"train": 4},
        fingerprints={"split": "s", "teacher": teacher},
        commit="of the start",
    )
    return make_results(outcome, subject)


def test_round_trip(tmp_path):
    write_results(tmp_path, results())
    found = read_results(tmp_path)
    assert found == json.loads(json.dumps(results()))
    assert found["metric_protocol"]["k"] == 100
    assert found["commit"] == "of the start"
    assert "no Hamming scores" in found["metric_protocol"]["float_queries"]
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 99}'])
def test_damaged_and_foreign_files_are_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match=r"results\.json"):
        read_results(tmp_path)


@pytest.mark.parametrize("part", [{}, {"metrics": {}}, {"metrics": [1]}, {"metrics": {"test/map_sshp": "x"}}])
def test_a_finished_run_without_its_score_is_named(tmp_path, part):
    (tmp_path / "results.json").write_text(json.dumps({"schema_version": 3} | part))
    with pytest.raises(InputError, match=r"results\.json has no test/map_sshp; remove DONE beside it"):
        recorded_metric(tmp_path, "val/map_sshp")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_results(tmp_path)


def test_codes_round_trip(tmp_path, generator):
    codes = random_codes(5, 12, generator).to(torch.int8)
    save_codes(tmp_path / "codes.safetensors", {"student_query": (codes, torch.arange(5))})
    with safe_open(tmp_path / "codes.safetensors", framework="pt") as file:
        assert torch.equal(unpack(file.get_tensor("student_query_packed"), int(file.metadata()["bits"])), codes)
        assert file.get_tensor("query_labels").tolist() == [0, 1, 2, 3, 4]


NEIGHBOURS = "the 50 nearest images by cosine of the teacher backbone's features"


def unlabelled(**options):
    found = results(**options)
    found["metric_protocol"]["relevance"] = NEIGHBOURS
    found["metrics"] |= {"test/recall_sshp": 0.321, "test/recall_ashp": 0.123}
    return found


def test_what_is_relevant_is_said_wherever_it_is_no_label(tmp_path):
    assert results()["metric_protocol"]["relevance"] == "labels"
    assert has_labels(results())
    assert not has_labels(unlabelled())
    assert notes([results(), unlabelled(), unlabelled(seed=1)]) == [
        f"digits: no labels, relevant items are {NEIGHBOURS}"
    ]


def test_names_of_classes_are_kept_and_earlier_records_have_none(tmp_path):
    write_results(tmp_path, results())
    assert read_results(tmp_path)["classes"] == []
    old = results()
    del old["classes"]
    write_results(tmp_path, old)
    assert read_results(tmp_path)["classes"] == []


def test_earlier_records_of_a_folder_get_its_name(tmp_path):
    for root, name in (("/home/someone/cats", "cats"), (".", "image_folder"), (None, "image_folder")):
        old = results()
        old["row"]["dataset"] = "image_folder"
        old["config"]["dataset"] = {"type": "image_folder", "root": root}
        write_results(tmp_path, old)
        assert read_results(tmp_path)["row"]["dataset"] == name


def test_records_from_before_are_judged_by_labels(tmp_path):
    old = results()
    del old["metric_protocol"]["relevance"]
    write_results(tmp_path, old)
    assert read_results(tmp_path)["metric_protocol"]["relevance"] == "labels"
