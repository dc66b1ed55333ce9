from rich.console import Console

from brcd_lightning.results.summary_table import results_table
from results.test_record import results


def printed(runs):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(results_table(runs))
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
