import pytest

from brcd_lightning.codes import as_signs
from brcd_lightning.metrics import individual_sample_distance, neighbor_relevance_accuracy
from brcd_lightning.report.figures.spaces import alignment, shared_space
from brcd_lightning.report.records import Records
from recorded import QUERIES, write_run


def test_bars_are_isd_and_nra(tmp_path):
    write_run(tmp_path / "a", "none")
    write_run(tmp_path / "b", "brcd")
    records = Records([tmp_path])
    isd, nra = alignment(records).axes
    names = [label.get_text() for label in isd.get_yticklabels()]
    assert names == ["NO KD", "BRCD"]  # the best aligned on top
    run = records.reference()["BRCD"].first
    codes = [as_signs(run.codes(encoder, "query").packed) for encoder in ("student", "teacher")]
    labels = run.codes("student", "query").labels
    assert isd.patches[1].get_width() == pytest.approx(individual_sample_distance(*codes).item())
    expected = neighbor_relevance_accuracy(*codes, labels, QUERIES)
    assert nra.patches[1].get_width() == pytest.approx(expected.item())


def test_both_encoders_share_one_space(tmp_path):
    write_run(tmp_path / "a", "none")
    write_run(tmp_path / "b", "brcd")
    first, second = shared_space(Records([tmp_path])).axes
    assert first.get_title().startswith("NO KD, ISD")
    assert second.get_title().startswith("BRCD, ISD")
    assert sum(len(points.get_offsets()) for points in second.collections) == 2 * QUERIES


def test_digits_are_explained_by_the_names_of_classes(tmp_path):
    for name, kinds, count in (("old", [], 2), ("named", ["cat", "dog", "emu", "fox"], 6)):
        write_run(tmp_path / name, classes=kinds)
        (legend,) = shared_space(Records([tmp_path / name])).legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert len(texts) == count
        assert texts[2:] == kinds
