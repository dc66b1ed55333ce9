import json

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from brcd_lightning.config import CONFIG_DIR
from brcd_lightning.experiment.fingerprint import (
    architecture,
    first_release_fingerprint,
    stored_network,
    teacher_fingerprint,
    transform,
)


def config_of(*overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)


def fingerprint(*overrides, split="s"):
    return teacher_fingerprint(config_of(*overrides), split)


@pytest.mark.parametrize(
    "override",
    [
        "kd_method.alpha=0.6",
        "kd_method=none",
        "paradigm=ashp",
        "student.max_epochs=3",
        "student.seed=9",
        "student.init=lsq",
        "student.train_on=database",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "logger=tensorboard",
        "output_dir=elsewhere",
        "data.num_workers=2",
    ],
)
def test_what_does_not_shape_the_teacher_shares_it(override):
    assert fingerprint(override) == fingerprint()


@pytest.mark.parametrize(
    "override",
    [
        "bits=64",
        "seed=1",
        "teacher.learning_rate=0.1",
        "teacher.head=mlp",
        "hashing_model.tau=0.4",
        "transform.size=20",
        "collapse_monitor.stop=true",
        "gather_distributed=false",
        "data.batch_size=64",
        "+trainer.limit_train_batches=2",
        "teacher.backbone.widths=[8]",
    ],
)
def test_what_shapes_the_teacher_makes_another(override):
    assert fingerprint(override) != fingerprint()


def test_the_number_of_relevant_neighbours_chooses_the_epoch_of_a_teacher():
    few, more, elsewhere = (
        fingerprint("dataset=images", f"dataset.{option}")
        for option in ("relevance_k=5", "relevance_k=6", "root=there")
    )
    assert few != more
    assert elsewhere == fingerprint("dataset=images")


def test_the_split_and_the_weights_count_by_content(tmp_path):
    assert fingerprint(split="other") != fingerprint()
    prints = []
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(content)
        prints.append(fingerprint("backbone@teacher.backbone=resnet18", f"teacher.backbone.weights={tmp_path / name}"))
    assert prints[0] == prints[1] != prints[2]


def test_a_teacher_of_stored_views_is_another():
    prints = [teacher_fingerprint(config_of(), "s", views) for views in (None, {"views": 32}, {"views": 16})]
    assert len(set(prints)) == 3


def test_architecture_leaves_out_weights_and_freezing():
    found = architecture(config_of("backbone@teacher.backbone=resnet18"), "teacher")
    assert found["bits"] == 32
    assert found["backbone"]["name"] == "resnet18"
    assert not {"weights", "freeze"} & set(found["backbone"])


def test_what_is_kept_has_names_instead_of_import_paths():
    found = architecture(config_of(), "student")
    assert (found["backbone"]["type"], found["hashing_model"]) == ("small", "cibhash")
    assert "brcd_lightning" not in json.dumps(found)


def test_stored_features_are_described_as_by_the_first_release():
    """Their folders are found by it, wherever the code is now."""
    config = config_of("backbone@teacher.backbone=resnet18", "dataset=cifar10")
    assert stored_network(config, "teacher") == {
        "_target_": "brcd_lightning.backbones.torchvision_backbone",
        "name": "resnet18",
        "tap": "penultimate",
        "mean": None,
        "std": None,
    }
    assert transform(config)["_target_"] == "brcd_lightning.data.transforms.natural_images"


def test_a_teacher_is_the_same_whose_hashing_model_it_has_alone_or_shares():
    alone = fingerprint("hashing_model@teacher.hashing_model=itq")
    assert alone == fingerprint("hashing_model=itq") != fingerprint()
    assert alone == fingerprint("hashing_model@teacher.hashing_model=itq", "hashing_model.tau=0.4")
    assert alone != fingerprint("hashing_model@teacher.hashing_model=itq", "teacher.hashing_model.iterations=3")


def test_its_checkpoint_names_the_model_of_each_role():
    config = config_of("hashing_model@teacher.hashing_model=itq")
    assert [architecture(config, role)["hashing_model"] for role in ("teacher", "student")] == ["itq", "cibhash"]


def test_an_option_that_was_deleted_is_one_that_is_off():
    assert first_release_fingerprint(config_of("~collapse_monitor.stop"), "s") == first_release_fingerprint(
        config_of(), "s"
    )


def test_a_teacher_of_its_own_is_found_where_the_first_release_stored_it():
    config = config_of("hashing_model@teacher.hashing_model=greedyhash", "hashing_model=bihalf")
    assert first_release_fingerprint(config, "s") == first_release_fingerprint(
        config_of("hashing_model=greedyhash"), "s"
    )
