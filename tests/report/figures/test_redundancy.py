import pytest
import torch
from safetensors.torch import load_file, save_file

from brcd_lightning.report.figures.redundancy import bit_frequencies, bit_masks, draw_masks, masked_run
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from recorded import noisy, write_run


def test_bars_are_frequencies_and_dropped_bits_stand_out(tmp_path):
    folder = write_run(tmp_path / "a")
    in_class, in_cluster = bit_frequencies(Records([tmp_path])).axes
    bits = [int(label.get_text()) for label in in_class.get_xticklabels()]
    labels = torch.arange(80) % 4
    expected = (noisy(labels, 16, 0.05, 7)[labels == 0][:, bits] > 0).double().mean(dim=0)
    assert [patch.get_height() for patch in in_class.patches] == pytest.approx(expected.tolist())
    assert in_class.get_title() == "class 0 (20 database images)"
    kept = load_file(folder / "teacher_codes.safetensors")
    cluster = int(kept["assignments"].bincount().argmax())
    dropped = [container for container in in_cluster.containers if "dropped" in container.get_label()]
    places = sorted(round(patch.get_x() + patch.get_width() / 2) for group in dropped for patch in group)
    assert places == (kept["masks"][cluster][bits] == 0).nonzero().flatten().tolist()


def test_the_class_is_named(tmp_path):
    write_run(tmp_path / "a", classes=["cat", "dog", "emu", "fox"])
    assert bit_frequencies(Records([tmp_path])).axes[0].get_title() == "cat (20 database images)"


def test_masks_are_drawn_over_expectations(tmp_path):
    folder = write_run(tmp_path / "a")
    kept = load_file(folder / "teacher_codes.safetensors")
    heat, counts, sizes = bit_masks(Records([tmp_path])).axes[:3]
    assert heat.images[0].get_array().tolist() == [pytest.approx(row) for row in kept["expectations"].tolist()]
    assert len(heat.collections[0].get_offsets()) == int((kept["masks"] == 0).sum())
    assert [patch.get_width() for patch in counts.patches] == kept["masks"].sum(dim=1).tolist()
    assert sum(patch.get_width() for patch in sizes.patches) == 60
    assert draw_masks(kept, "t").axes


def test_masks_that_drop_nothing_are_no_masks(tmp_path):
    write_run(tmp_path / "a", kd_method="none")
    with pytest.raises(UnfilledError, match="needs a run of a method with bit masks"):
        masked_run(Records([tmp_path]))


def test_a_cluster_without_images_has_size_zero(tmp_path):
    kept = load_file(write_run(tmp_path / "a") / "teacher_codes.safetensors")
    sizes = draw_masks(kept | {"assignments": kept["assignments"].clamp_max(2)}, "t").axes[2]
    assert [patch.get_width() for patch in sizes.patches][3] == 0


def test_images_without_labels_are_said(tmp_path):
    path = write_run(tmp_path / "a") / "codes.safetensors"
    multi_hot = {"query_labels": torch.zeros(24, 4).long(), "database_labels": torch.zeros(80, 4).long()}
    save_file(load_file(path) | multi_hot, path)
    with pytest.raises(UnfilledError, match="needs database images with labels"):
        bit_frequencies(Records([tmp_path]))
