import pytest

from brcd_lightning.report.ladder import find_ladders, ladder_tables, lessons
from brcd_lightning.report.records import Records
from brcd_lightning.report.table import Number
from recorded import write_run


def teacher(value):
    return {"test/map_teacher": value}


@pytest.fixture
def folder(tmp_path):
    """Two code lengths: codes with and without training, closed forms and gradients."""
    features = {f"test/map_{role}_{kind}": 0.9 for role in ("teacher", "student") for kind in ("features", "pq")}
    for bits, more in ((16, 0.0), (32, 0.1)):

        def write(name, method, sshp, epochs, bits=bits, higher=more, **options):
            write_run(tmp_path / f"{name}{bits}", method, 0, bits, sshp + higher, codes=False, epochs=epochs, **options)

        write("itq", "none", 0.3, 0, hashing_model="itq", more=teacher(0.7) | features)
        write("lsh", "none", 0.2, 0, hashing_model="lsh", more=teacher(0.6))
        write("cib", "none", 0.4, 5, hashing_model="cibhash", more=teacher(0.65 + more))
        write("lsq", "lsq", 0.5, 0, hashing_model="itq>cibhash")
        write("brcd", "brcd", 0.45 + more, 5, hashing_model="cibhash")
    return tmp_path


def row_of(table, name):
    (row,) = [row for row in table.rows if row[0] == name]
    return dict(zip(table.columns, row, strict=True))


def test_rungs_stand_in_order_with_what_they_measure(folder):
    (table,) = ladder_tables(Records([folder]))
    assert table.name == "ladder"
    assert [row[0] for row in table.rows] == [
        "real features", "PQ of features", "ITQ", "LSH", "CIBHASH", "LSQ, itq>cibhash", "BRCD, cibhash",
    ]  # fmt: skip
    itq, brcd = row_of(table, "ITQ"), row_of(table, "BRCD, cibhash")
    assert (itq["16 bits teacher"].mean, itq["16 bits SSHP"].mean, itq["16 bits ASHP"]) == (0.7, 0.3, None)
    assert itq["seconds"] == Number(0.0, digits=1)
    assert brcd["32 bits teacher"] is None
    assert brcd["32 bits SSHP"].mean == pytest.approx(0.65)
    assert brcd["32 bits ASHP"].mean == pytest.approx(0.325)
    assert brcd["seconds"] == Number(10.0, digits=1)
    assert row_of(table, "real features")["16 bits teacher"].mean == 0.9


def test_the_lessons_are_differences_of_the_best_of_both_kinds(folder):
    (ladder,) = find_ladders(Records([folder]))
    assert lessons(ladder) == [
        "Training the teacher adds +0.0000 over the best hashing model without training.",
        "A gradient adds +0.0000 in SSHP and +0.0000 in ASHP over the best closed form.",
    ]
    (table,) = ladder_tables(Records([folder]))
    assert "Training the teacher adds +0.0000" in table.note


def test_a_gradient_that_helps_and_a_teacher_that_does_not(tmp_path):
    write_run(tmp_path / "itq", "none", 0, 16, 0.3, codes=False, epochs=0, hashing_model="itq", more=teacher(0.8))
    write_run(tmp_path / "cib", "none", 0, 16, 0.3, codes=False, hashing_model="cibhash", more=teacher(0.75))
    write_run(tmp_path / "lsq", "lsq", 0, 16, 0.5, codes=False, epochs=0)
    write_run(tmp_path / "kl", "kl", 0, 16, 0.52, codes=False)
    (ladder,) = find_ladders(Records([tmp_path]))
    assert lessons(ladder) == [
        "Training the teacher adds -0.0500 over the best hashing model without training.",
        "A gradient adds +0.0200 in SSHP and +0.0100 in ASHP over the best closed form.",
    ]


def test_what_was_all_trained_is_no_ladder(tmp_path):
    write_run(tmp_path / "one", "brcd", codes=False)
    assert ladder_tables(Records([tmp_path])) == []


def test_float_queries_are_apart(folder):
    write_run(folder / "f", "kl", codes=False, more={"test/map_sshp_float": 0.6, "test/map_ashp_float": 0.7})
    names = [table.name for table in ladder_tables(Records([folder]))]
    assert names == ["ladder", "ladder_float"]
