import torch
from safetensors.torch import load_file

from brcd_lightning.codes.clusters import bit_masks, kmeans_codes, nearest_centroid
from brcd_lightning.distillation.none import NoDistillation
from conftest import make_datamodule, network_input
from small_training import distillation, make_trainer


def test_fit_start_clusters_the_clean_training_codes(tmp_path, splits):
    module = distillation()
    data = make_datamodule(splits)
    make_trainer(tmp_path, module=module).fit(module, datamodule=data)
    codes = module.teacher.encode(network_input(splits, splits.train))
    assert torch.equal(module.training_codes, codes)
    centroids, assignments = kmeans_codes(codes, 4, seed=0, n_init=2)
    assert torch.equal(module.kd_method.centroids, centroids)
    assert torch.equal(module.kd_method.masks, bit_masks(codes, assignments, 4, 0.5))
    assert torch.equal(nearest_centroid(codes, module.kd_method.centroids), assignments)
    kept = load_file(tmp_path / "teacher_codes.safetensors")
    assert torch.equal(kept["codes"], codes)
    assert torch.equal(kept["assignments"], assignments)


def test_a_second_fit_reclusters_for_another_teacher(tmp_path, splits):
    module = distillation()
    make_trainer(tmp_path, module=module).fit(module, datamodule=make_datamodule(splits))
    before = module.training_codes.clone()
    with torch.no_grad():
        module.teacher.hashing_model.head.weight[:8] *= -1
    make_trainer(tmp_path, module=module).fit(module, datamodule=make_datamodule(splits))
    assert not torch.equal(module.training_codes, before)
    centroids, _ = kmeans_codes(module.training_codes, 4, seed=0, n_init=2)
    assert torch.equal(module.kd_method.centroids, centroids)


def test_a_run_that_continues_in_a_later_epoch_writes_the_same_file(tmp_path, splits):
    def written(folder, **progress):
        module, data = distillation(), make_datamodule(splits)
        data.load_state_dict({"epoch": 0, "steps": 0} | progress)
        make_trainer(folder, module=module).fit(module, datamodule=data)
        return (folder / "teacher_codes.safetensors").read_bytes()

    assert written(tmp_path / "continued", epoch=3, steps=2) == written(tmp_path / "whole")
    assert len(load_file(tmp_path / "whole" / "teacher_codes.safetensors")["view_codes"]) == len(splits.train)


def test_methods_that_need_no_codes_cost_nothing(tmp_path, splits):
    module = distillation(NoDistillation())
    make_trainer(tmp_path, module=module).fit(module, datamodule=make_datamodule(splits))
    assert len(module.training_codes) == 0
    assert not (tmp_path / "teacher_codes.safetensors").exists()
