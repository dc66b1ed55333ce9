import json

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from brcd_lightning.training.loggers import close_loggers, wandb_logger
from brcd_lightning.training.wandb_media import LoggedFile, log_clusters, log_files, log_outcome
from results.test_record import results
from training.test_loggers import context
from wandb_log import read_records

KEPT = {
    "expectations": torch.tensor([[1.0, 0.2], [0.9, 0.8]]),
    "masks": torch.tensor([[1.0, 0.0], [1.0, 1.0]]),
    "assignments": torch.tensor([0, 1, 1]),
}


@pytest.fixture
def logger(tmp_path):
    yield wandb_logger(context(tmp_path), project="p", offline=True)
    close_loggers()


def history(tmp_path):
    close_loggers()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    records = read_records(folder)
    logged = {}
    for record in records:
        for item in record.history.item:
            logged["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    return folder, records, logged


def test_masks_and_cluster_sizes_are_seen_at_fit_start(tmp_path, logger):
    log_clusters([logger], KEPT)
    folder, _, logged = history(tmp_path)
    assert Image.open(folder / "files" / logged["teacher/bit_masks/path"]).width > 500
    table = json.loads((folder / "files" / logged["teacher/clusters/path"]).read_text())
    assert table["columns"] == ["cluster", "images", "kept bits"]
    assert table["data"] == [[0, 1, 1], [1, 2, 2]]
    assert logged["teacher/kept_bits_histogram/_type"] == "histogram"
    assert logged["teacher/cluster_sizes/_type"] == "histogram"


def test_methods_without_masks_show_their_clusters(tmp_path, logger):
    log_clusters([logger], {"assignments": KEPT["assignments"]})
    log_clusters([logger], {})
    _, _, logged = history(tmp_path)
    assert "teacher/clusters/path" in logged
    assert "teacher/bit_masks/path" not in logged


def test_the_outcome_is_a_table_a_gallery_and_files(tmp_path, logger):
    Image.new("RGB", (30, 20)).save(tmp_path / "gallery.png")
    (tmp_path / "student.safetensors").write_bytes(b"weights")
    log_outcome([logger], results(), tmp_path)
    folder, records, logged = history(tmp_path)
    table = json.loads((folder / "files" / logged["test/table/path"]).read_text())
    assert ["test/map_sshp", 0.5, 0.4, 0.6] in table["data"]
    assert (folder / "files" / logged["test/gallery/path"]).exists()
    made = [record.request.log_artifact.artifact for record in records if record.HasField("request")]
    made += [record.artifact for record in records if record.HasField("artifact")]
    assert {
        (artifact.type, json.loads(artifact.metadata)["teacher"]) for artifact in made if artifact.type == "model"
    } == {("model", "t0")}


def test_sources_stand_in_the_run(tmp_path, logger):
    (tmp_path / "manifest.json").write_text("{}")
    stored = LoggedFile("features-abc", "dataset", tmp_path / "manifest.json", {"backbone": "teacher"})
    absent = LoggedFile("teacher-x", "model", tmp_path / "absent", {})
    log_files([logger], [stored, absent], used=True)
    _, records, _ = history(tmp_path)
    names = {record.artifact.name for record in records if record.HasField("artifact")}
    names |= {record.request.log_artifact.artifact.name for record in records if record.HasField("request")}
    assert "features-abc" in names
    assert "teacher-x" not in names


def test_other_loggers_get_scalars_only(tmp_path):
    logger = CSVLogger(tmp_path)
    log_clusters([logger], KEPT)
    log_outcome([logger], results(), tmp_path)
    log_files([logger], [LoggedFile("x", "model", tmp_path, {})])
    assert not (tmp_path / "wandb").exists()
