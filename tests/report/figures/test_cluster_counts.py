import pytest
from safetensors.torch import load_file, save_file

from brcd_lightning.codes.clusters import kmeans_codes
from brcd_lightning.metrics import offset_positive_rate
from brcd_lightning.report.figures.cluster_counts import number_of_clusters, offset_positives
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from recorded import write_run


def test_boxes_hold_the_rates_of_repeated_k_means(tmp_path):
    folder = write_run(tmp_path / "a")
    (panel,) = offset_positives(Records([tmp_path])).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["2", "5", "10", "20", "30"]
    kept = load_file(folder / "teacher_codes.safetensors")
    codes, views = kept["codes"][:56], kept["view_codes"]
    rates = [
        offset_positive_rate(codes, views, kmeans_codes(codes, 2, seed=seed, n_init=1)[0]).item() for seed in range(5)
    ]
    medians = [line.get_ydata()[0] for line in panel.lines if line.get_color() == "#d55e00"]
    assert medians[0] == pytest.approx(sorted(rates)[2])


def test_the_elbow_falls_and_the_silhouette_peaks_at_the_classes(tmp_path):
    write_run(tmp_path / "a", bits=32)
    elbow, silhouette = number_of_clusters(Records([tmp_path])).axes
    values = list(elbow.lines[0].get_ydata())
    assert values == sorted(values, reverse=True)
    counts, scores = silhouette.lines[0].get_data()
    assert counts[scores.argmax() if hasattr(scores, "argmax") else scores.index(max(scores))] in (2, 5)


def test_runs_of_older_versions_have_no_views(tmp_path):
    path = write_run(tmp_path / "a") / "teacher_codes.safetensors"
    save_file({"codes": load_file(path)["codes"]}, path)
    with pytest.raises(UnfilledError, match="compares images with their augmentations"):
        offset_positives(Records([tmp_path]))
    assert number_of_clusters(Records([tmp_path])).axes
    with pytest.raises(UnfilledError, match="a method that uses the teacher"):
        number_of_clusters(Records([]))


def test_views_of_too_few_images_are_said(tmp_path):
    path = write_run(tmp_path / "a") / "teacher_codes.safetensors"
    kept = load_file(path)
    save_file(kept | {"view_codes": kept["view_codes"][:2], "view_index": kept["view_index"][:2]}, path)
    with pytest.raises(UnfilledError, match="more than 2 distinct teacher codes"):
        offset_positives(Records([tmp_path]))
