from rich.console import Console

from brcd_lightning.results.summary_table import results_table, results_tables
from results.test_record import results, unlabelled


def printed(runs, tables=lambda runs: [results_table(runs)]):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(*tables(runs))
    return console.export_text()


def test_the_table_shows_what_differs():
    text = printed([results("none", sshp=0.4321), results("brcd", alpha=0.6), results("brcd", alpha=0.9)])
    assert "digits, 32 bits, mAP@100" in text
    assert text.count("teacher (small_wide)") == 1
    assert "NO KD" in text
    assert "0.4321" in text
    assert "alpha" in text
    assert "seed" not in text
    assert "seed" in printed([results(seed=0), results(seed=1, teacher="t1")])


def test_float_queries_have_a_table_of_their_own():
    new, old = results("brcd"), results("kl")
    new["metrics"] |= {"test/map_sshp_float": 0.5678, "test/map_teacher_rescored": 0.6789}
    (hamming,) = results_tables([old])
    assert "float" not in printed([old], lambda runs: [hamming])
    hamming, by_score = (printed([], lambda runs, table=table: [table]) for table in results_tables([new, old]))
    assert "float" not in hamming
    assert "0.5678" not in hamming
    assert "mAP@100, float queries" in " ".join(by_score.split())
    assert {"0.5678", "0.6789"} <= set(by_score.split())
    (row,) = [line for line in by_score.splitlines() if "KL" in line]
    assert row.count(" - ") == 4, "an old record has no such scores"


def test_without_labels_recall_has_columns_and_a_note_says_what_is_relevant():
    text = " ".join(printed([unlabelled()], results_tables).split())
    assert {"0.3210", "0.1230"} <= set(text.split())
    assert "recall@100" in text
    assert "digits: no labels, relevant items are the 50 nearest images" in text
    assert "recall" not in printed([results()], results_tables)
