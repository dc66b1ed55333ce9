import json

import pytest
import torch

from brcd_lightning.metrics import average_precisions, distance_histograms, precision_recall_by_radius
from brcd_lightning.metrics.histograms import RadiusCurve
from brcd_lightning.report.figures import retrieval
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


def test_classes_have_their_names_or_numbers(tmp_path):
    for name, kinds in (("named", ["cat", "dog", "$emu", "a name that is much too long for a figure"]), ("old", [])):
        for method in ("none", "brcd"):
            write_run(tmp_path / name / method, method, classes=kinds)
        short = [*kinds[:3], "a name that is much too…"] if kinds else ["0", "1", "2", "3"]
        (panel,) = classes(Records([tmp_path / name])).axes
        assert [label.get_text() for label in panel.get_yticklabels()] == short
        for panel in confusion(Records([tmp_path / name])).axes[:2]:
            for ticks in (panel.get_xticklabels(), panel.get_yticklabels()):
                assert [label.get_text() for label in ticks] == short


def test_axes_fit_low_scores_and_are_the_same_in_both_panels(tmp_path, monkeypatch):
    for name in ("none", "brcd"):
        write_run(tmp_path / name, name)
    limits = [panel.get_ylim() for panel in precision_recall(Records([tmp_path])).axes]
    assert limits == [(0, 1), (0, 1)]
    low = [torch.full((17,), value) for value in (0.05, 0.08, 0.05, 0.07)]
    monkeypatch.setattr(
        retrieval, "precision_recall_by_radius", lambda _: RadiusCurve(low.pop(), torch.linspace(0, 1, 17))
    )
    for panel in precision_recall(Records([tmp_path])).axes:
        assert panel.get_ylim() == (0, 0.08)
        assert panel.get_xlim() == (0, 1)


def test_colours_and_bars_fit_low_scores(records, monkeypatch):
    share = torch.full((4, 4), 0.01)
    share[1, 2] = 0.13
    shares = [share, share / 2]
    monkeypatch.setattr(retrieval, "_class_shares", lambda *_: shares.pop())
    monkeypatch.setattr(retrieval, "average_precisions", lambda query, *_, **__: torch.full((len(query),), 0.012))
    for panel in confusion(records).axes[:2]:
        assert panel.images[0].get_clim() == (0, 0.15)
    assert classes(records).axes[0].get_xlim() == (0, 0.015)


@pytest.mark.parametrize("draw", [classes, confusion, alignment, shared_space, bit_frequencies])
def test_without_labels_there_are_no_classes_to_draw(tmp_path, draw):
    for name in ("none", "brcd"):
        path = write_run(tmp_path / name, name) / "results.json"
        record = json.loads(path.read_text())
        record["metric_protocol"]["relevance"] = "the 50 nearest images"
        path.write_text(json.dumps(record))
    with pytest.raises(UnfilledError, match="needs class labels, which digits has none of"):
        draw(Records([tmp_path]))
