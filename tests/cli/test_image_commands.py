"""Encode, index, add, remove, search, dedup and verify, as a user types them."""

import json
import sys

import pytest
from pyarrow import parquet

from brcd_lightning.cli.main import run
from small_encoder import make_encoder, write_images


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos" / "a", 8)
    write_images(tmp_path / "photos" / "b", 4, seed=1)
    (tmp_path / "photos" / "bad.png").write_bytes(b"")
    make_encoder().save_pretrained(tmp_path / "model", teacher=make_encoder("teacher"))
    return tmp_path


@pytest.fixture
def index(place, capsys):
    assert run(["index", "model", "photos", "--out", "photos.brcd"]) == 0
    capsys.readouterr()
    return place / "photos.brcd"


def test_from_images_to_neighbours(place, capsys):
    assert run(["index", "model", "photos", "--out", "photos.brcd"]) == 0
    told = capsys.readouterr().out
    for expected in (
        "Encoded 13 of 13 images",
        "bad.png: the file is empty",
        "12 images, 16 bits, sharded",
        "Recall 1.0",
    ):
        assert expected in told
    assert (place / "photos.brcd" / "unreadable.txt").read_text() == "bad.png\tthe file is empty\n"
    assert run(["search", "photos.brcd", "photos/a/003.png", "-k", "3"]) == 0
    first, *hits = capsys.readouterr().out.splitlines()
    assert first.startswith("photos/a/003.png: decode ")
    assert len(hits) == 3
    assert hits[0].split() == ["0", "a/003.png"]


def test_an_exported_file_computes_the_same(place, capsys):
    assert run(["export", "model", "--onnx", "student.onnx", "--count", "2"]) == 0
    assert run(["export", "model", "--onnx", "teacher.onnx", "--role", "teacher", "--count", "2"]) == 0
    assert run(["index", "model", "photos", "--out", "sshp", "--onnx", "student.onnx"]) == 0
    assert run(["index", "model", "photos", "--out", "ashp", "--paradigm", "ashp", "--onnx", "teacher.onnx"]) == 0
    assert run(["index", "model", "photos", "--out", "plain"]) == 0
    capsys.readouterr()
    answers = []
    for index, options in (("sshp", ["--onnx", "student.onnx"]), ("plain", [])):
        assert run(["search", index, "photos/a/003.png", "--json", *options]) == 0
        answers.append(json.loads(capsys.readouterr().out)["queries"][0]["hits"])
    assert answers[0] == answers[1]
    assert run(["search", "ashp", "photos/a/003.png", "--onnx", "student.onnx"]) == 0
    assert run(["search", "ashp", "photos/a/003.png", "--onnx", "teacher.onnx"]) == 2
    told = capsys.readouterr().err
    assert "error: teacher.onnx is of encoder " in told
    assert told.count("\n") == 1


def test_answers_for_programs(index, capsys):
    assert run(["search", "photos.brcd", "photos/a/003.png", "photos/b/001.png", "-k", "2", "--json", "--rescore"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["query"] for each in answer["queries"]] == ["photos/a/003.png", "photos/b/001.png"]
    assert answer["exact"] is True
    assert {"id", "path", "distance", "score"} == answer["queries"][0]["hits"][0].keys()
    assert {"prepare", "encode", "search"} == answer["queries"][0]["ms"].keys()
    assert run(["search", "photos.brcd", "photos/a/003.png", "--max-distance", "0", "-0"]) == 0
    paths = capsys.readouterr().out.split("\0")
    assert paths[-1] == ""
    assert f"{index.parent}/photos/a/003.png" in paths
    assert run(["search", "photos.brcd", "photos/a/003.png", "--html", "page.html"]) == 0
    assert (index.parent / "page.html").read_text().startswith("<!doctype html>")


def test_the_index_lives(index, place, capsys):
    write_images(place / "photos" / "c", 2, seed=2)
    assert run(["add", "photos.brcd", "photos/c"]) == 0
    assert "14 images are in photos.brcd now" in capsys.readouterr().out
    assert run(["add", "photos.brcd", "photos/c"]) == 0
    assert "2 were already in the index" in capsys.readouterr().out
    assert run(["remove", "photos.brcd", "a/000.png", "b"]) == 0
    assert "Removed 5 images; 9 are in photos.brcd now" in capsys.readouterr().out
    assert run(["verify", "photos.brcd", "--queries", "20"]) == 0
    assert "recall 1.0000, empty slots 0" in capsys.readouterr().out
    (place / "photos" / "a" / "009.png").write_bytes((place / "photos" / "a" / "005.png").read_bytes())
    run(["add", "photos.brcd", "photos/a"])
    capsys.readouterr()
    assert run(["dedup", "photos.brcd", "--json"]) == 0
    assert ["a/005.png", "a/009.png"] in json.loads(capsys.readouterr().out)
    assert run(["dedup", "photos.brcd"]) == 0
    assert "a/005.png\na/009.png\n" in capsys.readouterr().out


def test_a_demanded_recall_that_is_not_reached(index, monkeypatch, capsys):
    from brcd_lightning.deployment.image_index import verification

    found = verification.Verification(20, 10, 0.5, 3, 1.0, 2.0, 1.0, 2.0)
    monkeypatch.setattr(verification, "verify", lambda *_, **__: found)
    assert run(["verify", "photos.brcd"]) == 2
    assert "recall 0.5000 is below 0.99; index the images again" in capsys.readouterr().err
    assert run(["verify", "photos.brcd", "--recall", "0.5"]) == 0


def test_codes_of_both_roles(place, capsys):
    for role in ("student", "teacher"):
        assert run(["encode", "model", "photos", "--out", role, "--role", role]) == 0
        assert f"Codes are in {role}" in capsys.readouterr().out
    codes = [parquet.read_table(place / role / "part-00000.parquet").column("code") for role in ("student", "teacher")]
    assert codes[0] != codes[1]
    assert run(["index", "model", "photos", "--out", "ashp", "--paradigm", "ashp"]) == 0
    assert json.loads((place / "ashp" / "index.json").read_text())["role"] == "teacher"
    assert run(["encode", "model", "photos", "--out", "shared", "--part-size", "4", "--shard", "1/2"]) == 0
    assert "Other shares are still missing." in capsys.readouterr().out


def test_codes_by_an_exported_file(place, capsys):
    assert run(["export", "model", "--onnx", "student.onnx", "--count", "4"]) == 0
    for out, more in (("torch", []), ("onnx", ["--onnx", "student.onnx"])):
        assert run(["encode", "model", "photos", "--out", out, *more]) == 0
    codes = [parquet.read_table(place / out / "part-00000.parquet") for out in ("torch", "onnx")]
    assert codes[0] == codes[1]
    capsys.readouterr()
    assert run(["encode", "model", "photos", "--out", "onnx"]) == 2
    assert "onnx holds codes of something else (runtime differ)" in capsys.readouterr().err
    assert run(["encode", "model", "photos", "--role", "teacher", "--out", "x", "--onnx", "student.onnx"]) == 2
    assert "student.onnx is of encoder" in capsys.readouterr().err


def test_images_decoded_at_a_fraction_of_their_size(place, capsys):
    write_images(place / "large", 3, (400, 300), suffix=".jpg")
    assert run(["encode", "model", "large", "--out", "codes", "--reduced-decoding"]) == 0
    assert json.loads((place / "codes" / "encoding.json").read_text())["decoding"] == "reduced"
    assert run(["index", "model", "large", "--out", "large.brcd", "--reduced-decoding"]) == 0
    assert "3 images, 16 bits" in capsys.readouterr().out


def test_an_engine_that_is_not_installed_is_named(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "brcd_lightning.deployment.encoding.daft_engine", None)
    assert run(["encode", "model", "photos", "--out", "x", "--engine", "daft"]) == 2
    assert capsys.readouterr().err == "error: --engine daft needs Daft: pip install 'brcd_lightning[daft]'.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("index nothing photos --out x", "nothing is not a folder here"),
        ("index photos photos --out x", "photos holds no student"),
        ("index model nothing --out x", "nothing is not a folder, an image or a list of images"),
        ("index model photos --out x --kind tree", "--kind must be one of flat, sharded, ivf, hnsw, multi_hash, auto"),
        ("index model photos --out x --batch-size 0", "--batch-size must be an integer in 1..65536, got '0'"),
        ("encode model photos --out x --shard 3/2", "a shard must be i/n with 1 <= i <= n, got 3/2"),
        ("encode model photos --out x --shard half", "--shard must be i/n, such as 1/2, got 'half'"),
        ("encode model photos --out x --workers 2", "--workers needs --engine daft"),
        ("encode model photos --out x --engine daft --device cuda", "--engine daft encodes on CPUs, got --device cuda"),
        ("encode model photos --out photos", "photos is not empty and holds no codes"),
        ("index model photos --out photos", "photos is not empty and holds no index"),
        ("search photos photos/a/000.png", "photos is not an image index"),
        ("search photos.brcd nothing.png", "image nothing.png cannot be decoded"),
        ("search photos.brcd photos/bad.png", "photos/bad.png cannot be decoded: the file is empty"),
        ("search photos.brcd photos/a/000.png -k 0", "-k must be an integer in 1..1000000, got '0'"),
        (
            "search photos.brcd photos/a/000.png --max-distance=-1",
            "--max-distance must be an integer in 0..65536, got '-1'",
        ),
        ("search photos.brcd photos/a/000.png --json -0", "--json and -0 exclude each other"),
        ("search photos.brcd photos/a/000.png --model photos", "photos holds no student"),
        ("verify photos.brcd --recall 2", "--recall must be a number in [0, 1], got '2'"),
        ("verify photos", "photos is not an image index"),
        ("dedup photos.brcd --max-distance -3", "--max-distance must be an integer in 0..65536, got '-3'"),
        ("remove photos.brcd x", "holds no image x; give paths as brcd search prints them"),
        ("add photos.brcd model", "model holds no images"),
        ("add photos photos", "photos is not an image index"),
    ],
)
def test_mistakes_take_one_line_and_write_nothing(index, place, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(path for path in place.rglob("*") if not path.name.startswith("."))
    assert run(arguments.split()) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert sorted(path for path in place.rglob("*") if not path.name.startswith(".")) == before
