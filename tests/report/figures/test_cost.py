import json

import pytest

from brcd_lightning.report.figures.cost import cost_of_queries, draw_latency, latency_curves
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from recorded import LATENCY, write_run


def timed(folder, *latencies):
    """The records of a folder with these latencies in this order."""
    for number, latency in enumerate(latencies):
        (folder / f"latency_{number}.json").write_text(json.dumps(latency))
    return Records([folder])


def test_the_front_holds_what_nothing_beats(tmp_path):
    write_run(tmp_path / "a", "brcd", sshp=0.6, codes=False)
    write_run(tmp_path / "b", "kl", sshp=0.5, codes=False)
    write_run(tmp_path / "c", "brcd", sshp=0.3, student="tiny", codes=False)
    front, saving = cost_of_queries(timed(tmp_path, LATENCY)).axes
    (line,) = [line for line in front.lines if line.get_label() == "Pareto front"]
    assert list(line.get_xdata()) == [0.5, 1.0, 10.0]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.6, 0.75])
    points = {(round(line.get_xdata()[0]), round(line.get_ydata()[0], 3)) for line in saving.lines}
    assert points == {(90, 0.15), (90, 0.45), (90, 0.25), (90, 0.5), (95, 0.45), (95, 0.6)}


def test_times_of_two_machines_are_not_mixed(tmp_path):
    write_run(tmp_path / "a", sshp=0.6, codes=False)
    other = LATENCY | {"device": "other", "encode": [row | {"ms": 99.0} for row in LATENCY["encode"][:2]]}
    for latencies in ([LATENCY, other], [other, LATENCY]):
        figure = cost_of_queries(timed(tmp_path, *latencies))
        assert "a device" in figure.get_suptitle()
        (line,) = [line for line in figure.axes[0].lines if line.get_label() == "Pareto front"]
        assert list(line.get_xdata()) == [1.0, 10.0]


def test_latencies_of_other_networks_do_not_help(tmp_path):
    write_run(tmp_path / "a", student="unknown", codes=False)
    with pytest.raises(UnfilledError, match="needs the latency of the runs' backbones"):
        cost_of_queries(timed(tmp_path, LATENCY))


def test_curves_are_medians_with_their_spread():
    encoding, searching = draw_latency(LATENCY).axes
    assert list(encoding.containers[0].lines[0].get_ydata()) == [1.0, 8.0]
    assert [container.get_label() for container in searching.containers] == ["n=1,000, k=10"]


def test_each_machine_has_its_curves(tmp_path):
    assert latency_curves(Records([tmp_path])) == []
    first, second = latency_curves(timed(tmp_path, LATENCY, LATENCY | {"device": "other"}))
    assert "a device" in first.get_suptitle()
    assert "other" in second.get_suptitle()
