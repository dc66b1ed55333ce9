import json

from brcd_lightning.report.protocol import protocol_lines
from brcd_lightning.report.records import Records
from recorded import write_run


def test_a_line_says_how_a_data_set_was_measured(tmp_path):
    for seed in (2, 0, 1):
        write_run(tmp_path / str(seed), seed=seed, codes=False)
    assert protocol_lines(Records([tmp_path]).runs) == [
        "Protocol of digits: mAP@20, 24 queries, 80 database images, relevant: images that share a label with the "
        "query, ties: database order after one seeded permutation, seeds 0 to 2."
    ]


def test_data_sets_of_one_protocol_share_its_line(tmp_path):
    for name in ("digits", "fake"):
        write_run(tmp_path / name, dataset=name, codes=False)
    (line,) = protocol_lines(Records([tmp_path]).runs)
    assert line.startswith("Protocol of digits and fake: mAP@20")


def test_every_protocol_has_its_line(tmp_path):
    write_run(tmp_path / "a", codes=False, dataset="fake")
    write_run(tmp_path / "b", codes=False, seed=3, dataset="fake")
    path = write_run(tmp_path / "c", codes=False, seed=3) / "results.json"
    record = json.loads(path.read_text())
    record["metric_protocol"] = {"k": 5, "relevance": "the 50 nearest images by cosine"}
    record["sizes"] = {"query": 12_345}
    path.write_text(json.dumps(record))
    fake, digits = protocol_lines(Records([tmp_path]).runs)
    assert fake.startswith("Protocol of fake: mAP@20")
    assert fake.endswith("seeds 0, 3.")
    assert digits == (
        "Protocol of digits: mAP@5, 12,345 queries, no labels, relevant: the 50 nearest images by cosine, seed 3."
    )
