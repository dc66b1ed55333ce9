import json

import pytest

from brcd_lightning.metrics import average_precisions, distance_histograms, precision_recall_by_radius
from brcd_lightning.report.figures.redundancy import bit_frequencies
from brcd_lightning.report.figures.retrieval import best_run, classes, confusion, precision_recall
from brcd_lightning.report.figures.spaces import alignment, shared_space
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from recorded import write_run


@pytest.fixture
def records(tmp_path):
    write_run(tmp_path / "a", "none", sshp=0.6)
    write_run(tmp_path / "b", "brcd", sshp=0.5)
    return Records([tmp_path])


def test_the_best_student_is_one_that_distilled(records):
    assert best_run(records).row["kd_method"] == "brcd"


def test_curves_are_those_of_the_metric(records):
    sshp, ashp = precision_recall(records).axes
    run = best_run(records)
    for panel, encoder in ((sshp, "student"), (ashp, "teacher")):
        query, database = run.codes("student", "query"), run.codes(encoder, "database")
        counts = distance_histograms(query.packed, database.packed, query.labels, database.labels)
        (line,) = [line for line in panel.lines if line.get_label() == "BRCD"]
        assert list(line.get_ydata()) == pytest.approx(precision_recall_by_radius(counts).precision.tolist())


def test_curves_of_codes_with_padding_end_at_the_code_length(tmp_path):
    for name in ("none", "brcd"):
        write_run(tmp_path / name, name, bits=12)
    for panel in precision_recall(Records([tmp_path])).axes:
        assert [len(line.get_xdata()) for line in panel.lines] == [13, 13]


def test_each_class_has_its_own_map(records):
    (panel,) = classes(records).axes
    run = best_run(records)
    query, database = run.codes("teacher", "query"), run.codes("teacher", "database")
    each = average_precisions(query.packed, database.packed, query.labels, database.labels, k=20)
    widths = [patch.get_width() for patch in panel.patches]
    assert widths[:4] == pytest.approx([each[query.labels == label].mean().item() for label in range(4)])
    assert len(widths) == 12


def test_rows_of_the_confusion_sum_to_one(records):
    for panel in confusion(records).axes[:2]:
        shares = panel.images[0].get_array()
        assert shares.sum(axis=1).tolist() == pytest.approx([1.0] * 4)
        assert (shares.diagonal() >= 0.25 - 1e-9).all()


@pytest.mark.parametrize("draw", [classes, confusion, alignment, shared_space, bit_frequencies])
def test_without_labels_there_are_no_classes_to_draw(tmp_path, draw):
    for name in ("none", "brcd"):
        path = write_run(tmp_path / name, name) / "results.json"
        record = json.loads(path.read_text())
        record["metric_protocol"]["relevance"] = "the 50 nearest images"
        path.write_text(json.dumps(record))
    with pytest.raises(UnfilledError, match="needs class labels, which digits has none of"):
        draw(Records([tmp_path]))
