import json

import pytest

from brcd_lightning.metrics.declared import COLUMNS, ListMetric
from brcd_lightning.report.comparisons import comparison_tables, runs_table, score
from brcd_lightning.report.records import Records
from brcd_lightning.report.table import Number
from brcd_lightning.results import summary_table
from recorded import write_grid, write_run


@pytest.fixture(autouse=True)
def _one_metric(monkeypatch):
    """Columns of mAP alone, whatever else is declared."""
    monkeypatch.setattr(summary_table, "COLUMNS", COLUMNS[:1])


def cell(table, row, column):
    (line,) = [line for line in table.rows if line[0] == row]
    return line[table.columns.index(column)]


def test_table_1_is_the_papers(tmp_path):
    for bits in (32, 64):
        for seed, sshp in enumerate((0.5, 0.6)):
            write_run(tmp_path / f"b{bits}{seed}", "brcd", seed, bits, sshp, codes=False)
            write_run(tmp_path / f"n{bits}{seed}", "none", seed, bits, 0.9, codes=False)
    write_run(tmp_path / "k", "kl", 0, 32, 0.4, codes=False)
    write_run(tmp_path / "p", "packd", 0, 32, 0.2, codes=False)
    (table,) = comparison_tables(Records([tmp_path]))
    assert table.columns == ["method", *(f"digits {bits} bits {p}" for bits in (32, 64) for p in ("SSHP", "ASHP"))]
    assert [row[0] for row in table.rows] == ["teacher, both sides", "NO KD", "PACKD *", "KL", "BRCD"]
    brcd = cell(table, "BRCD", "digits 32 bits SSHP")
    assert (brcd.mean, brcd.deviation, brcd.runs) == (pytest.approx(0.55), pytest.approx(0.0707, abs=1e-4), 2)
    assert brcd.rank == "best"
    assert cell(table, "KL", "digits 32 bits SSHP").rank == "second"
    assert cell(table, "NO KD", "digits 32 bits SSHP").rank == ""  # it does not distil
    assert cell(table, "KL", "digits 64 bits SSHP") is None
    assert cell(table, "teacher, both sides", "digits 32 bits SSHP").mean == 0.75
    assert "4 cells missing" in table.note
    assert "uses labels" in table.note


def test_other_settings_have_tables_of_their_own(tmp_path):
    tables = comparison_tables(Records([write_grid(tmp_path)]))
    names = [table.name for table in tables]
    assert names == ["table1_1", "table1_2", "table1_3", "table2", "table1_float", "table2_float"]
    assert any("mecoq 16 bits SSHP" in table.columns for table in tables)


def test_the_list_of_runs_shows_what_differs(tmp_path):
    for alpha in (0.6, 0.9):
        write_run(tmp_path / str(alpha), config={"alpha": alpha}, sshp=alpha, codes=False)
    table = runs_table(Records([tmp_path]))
    assert table.columns == ["alpha", "validation", "SSHP", "ASHP", "teacher", "folder"]
    assert [row[0] for row in table.rows] == [Number(0.6, digits=None), Number(0.9, digits=None)]
    assert runs_table(Records([])).rows == []


def test_a_metric_that_was_not_measured_is_missing(tmp_path):
    write_run(tmp_path / "a", codes=False)
    (only,) = Records([tmp_path]).cells
    assert score(only, "map_other") is None


def test_each_teacher_counts_once_whoever_learned_from_it(tmp_path):
    for seed in (0, 1):
        for method in ("none", "brcd"):
            write_run(tmp_path / f"{method}{seed}", method, seed, codes=False)
    write_run(tmp_path / "kl", "kl", 0, codes=False)
    (table,) = comparison_tables(Records([tmp_path]))
    assert cell(table, "teacher, both sides", "digits 16 bits SSHP").runs == 2


def test_runs_of_other_seeds_of_the_method_are_no_doubles(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), config={"seed": seed}, codes=False)
    records = Records([tmp_path])
    assert records.problems == []
    assert len(records.cells) == 1


def test_small_options_are_shown(tmp_path):
    for alpha in (1e-5, 3e-5):
        write_run(tmp_path / str(alpha), config={"alpha": alpha}, codes=False)
    assert [row[0].text for row in runs_table(Records([tmp_path])).rows] == ["1e-05", "3e-05"]


def test_another_k_is_another_column(tmp_path):
    write_run(tmp_path / "a", sshp=0.5, codes=False)
    other = write_run(tmp_path / "b", "kl", sshp=0.9, codes=False)
    path = other / "results.json"
    path.write_text(path.read_text().replace('"k": 20', '"k": 10'))
    (table,) = comparison_tables(Records([tmp_path]))
    assert table.columns[1:] == [f"digits 16 bits {p} mAP@{k}" for k in (10, 20) for p in ("SSHP", "ASHP")]
    assert cell(table, "KL", "digits 16 bits SSHP mAP@20") is None
    assert cell(table, "BRCD", "digits 16 bits SSHP mAP@20").rank == "best"


def test_every_metric_in_tables_has_its_columns(tmp_path, monkeypatch):
    other = ListMetric(
        prefix="other", title="other@{k}", per_query=lambda lists, k: lists.relevance[:, 0], in_tables=True
    )
    monkeypatch.setattr(summary_table, "COLUMNS", (COLUMNS[0], other))
    write_run(tmp_path / "a", codes=False)
    (table,) = comparison_tables(Records([tmp_path]))
    heads = [f"digits 16 bits {p} {m}@20" for m in ("mAP", "other") for p in ("SSHP", "ASHP")]
    assert table.columns == ["method", *heads]
    assert table.note.startswith("mAP@20, other@20 on test queries")
    assert cell(table, "BRCD", heads[0]).mean == 0.5
    assert cell(table, "BRCD", heads[2]) is None, "not measured by this run"
    assert "SSHP other@K" in runs_table(Records([tmp_path])).columns


def with_float_queries(folder, **metrics):
    """Adds metrics to the record of a run."""
    path = folder / "results.json"
    record = json.loads(path.read_text())
    record["metrics"] |= {f"test/{name}": value for name, value in metrics.items()}
    path.write_text(json.dumps(record))


def test_float_queries_have_tables_of_their_own(tmp_path):
    write_run(tmp_path / "old", "kl", codes=False)
    assert [table.name for table in comparison_tables(Records([tmp_path]))] == ["table1"]
    new = write_run(tmp_path / "new", sshp=0.4, codes=False)
    with_float_queries(new, map_sshp_float=0.45, map_ashp_float=0.3, map_sshp_rescored=0.46, map_teacher_float=0.8)
    records = Records([tmp_path])
    main, by_score = comparison_tables(records)
    assert (main.name, by_score.name) == ("table1", "table1_float")
    assert not any("float" in text for text in (main.title, main.note, *main.columns))
    assert "float queries (no Hamming scores)" in by_score.title
    heads = [
        f"digits 16 bits {paradigm} mAP@20, float queries{suffix}"
        for suffix in ("", ", rescored")
        for paradigm in ("SSHP", "ASHP")
    ]
    assert by_score.columns == ["method", *heads]
    assert cell(by_score, "BRCD", heads[0]).mean == 0.45
    assert cell(by_score, "BRCD", heads[2]).mean == 0.46
    assert [cell(by_score, "KL", head) for head in heads] == [None] * 4, "an old record has no such scores"
    assert cell(by_score, "teacher, both sides", heads[0]).mean == 0.8
    assert "5 cells missing" in by_score.note
    protocol = "Protocol of digits: mAP@20, 24 queries, 80 database images, relevant: images that share a label"
    assert all(table.note.count(protocol) == 1 for table in (main, by_score, runs_table(records)))
    table = runs_table(records)
    assert table.columns[-4:-1] == [f"{pair} mAP@K, float queries, rescored" for pair in ("SSHP", "ASHP", "teacher")]
    assert [len(row) for row in table.rows] == [len(table.columns)] * 2
