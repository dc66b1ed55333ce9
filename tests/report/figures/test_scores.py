import pytest

from brcd_lightning.report.figures.scores import map_by_backbones, map_by_bits, map_by_options
from brcd_lightning.report.records import Records
from brcd_lightning.report.runs import UnfilledError
from recorded import write_grid, write_run


def test_lines_go_through_the_means(tmp_path):
    figure = map_by_bits(Records([write_grid(tmp_path)]))
    sshp = figure.axes[0]
    lines = {container.get_label(): container.lines[0] for container in sshp.containers}
    assert list(lines["KL"].get_xdata()) == [16, 32]
    assert list(lines["KL"].get_ydata()) == pytest.approx([0.505, 0.505])


def test_pairs_of_backbones_are_groups_of_bars(tmp_path):
    figure = map_by_backbones(Records([write_grid(tmp_path)]))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["large →\nsmall", "large →\ntiny"]
    assert [panel.get_xlim() for panel in figure.axes] == [(0, 0.8), (0, 0.8)]


def test_options_are_lines_with_the_others_at_their_best_and_a_heat_map(tmp_path):
    figure = map_by_options(Records([write_grid(tmp_path)]))
    alpha, delta, heat = figure.axes[:3]
    assert (alpha.get_xlabel(), delta.get_xlabel()) == ("alpha", "delta")
    assert alpha.get_title() == "at delta 0.5"
    assert list(alpha.containers[0].lines[0].get_ydata()) == pytest.approx([0.35, 0.5])
    assert heat.images[0].get_array().tolist() == [pytest.approx([0.32, 0.35]), pytest.approx([0.47, 0.5])]


def test_an_incomplete_grid_has_no_heat_map(tmp_path):
    for number, (alpha, delta) in enumerate([(0.6, 0.2), (0.9, 0.2), (0.9, 0.5)]):
        write_run(tmp_path / str(number), config={"alpha": alpha, "delta": delta}, sshp=alpha, codes=False)
    assert len(map_by_options(Records([tmp_path])).axes) == 2


def test_what_lies_beside_a_grid_is_left_out_of_its_heat_map(tmp_path):
    places = [(alpha, delta) for alpha in (0.6, 0.9) for delta in (0.2, 0.5)]
    for number, (alpha, delta) in enumerate([*places, (0.9, 0.7)]):
        write_run(tmp_path / str(number), config={"alpha": alpha, "delta": delta}, sshp=alpha, codes=False)
    heat = map_by_options(Records([tmp_path])).axes[2]
    assert heat.images[0].get_array().shape == (2, 2)
    assert [label.get_text() for label in heat.get_xticklabels()] == ["0.2", "0.5"]


@pytest.mark.parametrize("draw", [map_by_bits, map_by_backbones, map_by_options])
def test_what_is_missing_is_said(tmp_path, draw):
    write_run(tmp_path / "a", codes=False)
    with pytest.raises(UnfilledError, match="needs"):
        draw(Records([tmp_path]))
    with pytest.raises(UnfilledError, match="needs"):
        draw(Records([]))
