"""Wrong calls of the commands that use a model: one line, exit code 2, and nothing is written."""

import os

import pytest

from brcd_lightning.cli.main import run
from small_encoder import make_encoder, write_images

POSITIVE = ("0", "-1", "1.5", "many", "", " 3", "1e3", "nan", "0x10", "9" * 30)
WHOLE = ("-1", "1.5", "many", "", "1e3", "9" * 30)
SHARE = ("-0.1", "1.1", "half", "", "nan", "inf")
MODEL = (
    "",
    "nothing",
    "photos",
    "photos/a/000.png",
    "notes.txt",
    "owner/nothing",
    "a/b/c",
    "x" * 300,
    "broken",
    "index",
)
IMAGES = ("", "nothing", "empty", "notes.txt", "names.csv", "index/index.json", "x" * 300, "pipe.png")
INDEX = (
    "",
    "nothing",
    "photos",
    "model",
    "codes",
    "photos/a/000.png",
    "x" * 300,
    "index/model",
    "damaged",
    "lance://x",
)
TABLE = ("", "a/b", "..", "x" * 300)
OUT = ("photos", "photos/a/000.png", "photos/a/000.png/x", "x" * 300, "model", "index")
QUERY = ("", "nothing.png", "photos", "notes.txt", "photos/bad.png", "x" * 300, "pipe.png", "index/index.json")
FILE = ("photos", "photos/a/000.png/x.html", "x" * 300)

ENCODING = {"--batch-size": POSITIVE, "--part-size": POSITIVE, "--threads": POSITIVE, "--column": ()}
COMMANDS = {
    "encode": (["model", "photos", "--out", "new"], (MODEL, IMAGES), {
        "--out": OUT, "--role": ("", "Student", "both"), "--shard": ("", "1", "0/1", "3/2", "a/b", "1/2/3", "-1/2"),
        "--engine": ("", "ray", "Threads"), "--workers": (*POSITIVE, "2"),
        "--onnx": ("", "nothing.onnx", "photos", "notes.txt", "x" * 300), "--device": ("", "gpu", "cuda:x", "3"),
        **ENCODING,
    }),
    "index": (["model", "photos", "--out", "new"], (MODEL, IMAGES), {
        "--out": OUT, "--kind": ("", "tree", "FLAT"), "--paradigm": ("", "both", "SSHP"),
        "--onnx": ("nothing.onnx", "photos", "notes.txt"), **ENCODING,
    }),
    "add": (["index", "photos"], (INDEX, ("", "nothing", "empty", "notes.txt", "names.csv", "x" * 300)), ENCODING),
    "remove": (["index", "a/000.png"], (INDEX, ("", "nothing", "/", "..", "a/000", "x" * 300)), {}),
    "search": (["index", "photos/a/000.png"], (INDEX, QUERY), {
        "-k": POSITIVE, "--max-distance": WHOLE, "--threads": POSITIVE, "--model": MODEL, "--html": FILE,
        "--table": TABLE,
        "--onnx": ("", "nothing.onnx", "photos", "notes.txt"),
    }),
    "dedup": (["index"], (INDEX,), {"--max-distance": WHOLE}),
    "verify": (["index"], (INDEX,), {
        "--recall": SHARE, "-k": POSITIVE, "--queries": POSITIVE, "--threads": POSITIVE, "--model": MODEL,
        "--table": TABLE,
    }),
    "push": (["codes", "--to", "lance://new"], (INDEX[:4],), {
        "--to": ("", "nothing", "lance://", "lance://notes.txt/x", "postgresql://u:s@c@h/d", "mysql://h/d", "x" * 300),
        "--table": TABLE, "--kind": ("", "tree", "FLAT", "hnsw"),
    }),
    "serve": (["index", "--port", "0"], (INDEX, ("", "nothing", "photos")), {
        "--port": ("-1", "65536", "http", "", "1.5"), "--threads": POSITIVE, "--max-upload-mb": POSITIVE,
        "--max-megapixels": (*POSITIVE, "90"), "--root": ("nothing", "notes.txt"),
        "--host": ("nowhere.invalid", "256.1.1.1"),
        "--onnx": ("nothing.onnx", "notes.txt"),
    }),
    "export": (["model", "--onnx", "new.onnx"], (MODEL,), {
        "--onnx": ("", "new", "photos/a/000.png/x.onnx", f"{'x' * 300}.onnx"), "--role": ("", "both"),
        "--count": ("1", *POSITIVE), "--images": IMAGES, "--static": ("page",), "--codes": ("codes",),
    }),
}  # fmt: skip


def bad_calls():
    """Each good call with one mistake: a wrong argument, value or option, or an argument too few or too many."""
    for command, (good, arguments, options) in COMMANDS.items():
        for place, wrong in enumerate(arguments):
            for value in wrong:
                given = [*good] if place < len(good) and not good[place].startswith("-") else [good[0], "", *good[1:]]
                given[place] = value
                yield [command, *given]
        for option, wrong in options.items():
            for value in wrong:
                yield [command, *good, f"{option}={value}" if option.startswith("--") else f"{option}{value}"]
            if option not in ("--column",):
                yield [command, *good, option]
        yield [command]
        yield [command, *good, "--nothing"]
        yield [command, *good, *(f"--{'thread' if '--threads' in options else 'nothing'}", "1")]


CALLS = list(bad_calls())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calls")
    write_images(folder / "photos" / "a", 4)
    (folder / "photos" / "bad.png").write_bytes(b"")
    (folder / "notes.txt").write_text("missing.png\n../secret.png\n")
    (folder / "names.csv").write_text("name,label\na.png,3\n")
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe.png")
    make_encoder().save_pretrained(folder / "model", teacher=make_encoder("teacher"))
    make_encoder().save_pretrained(folder / "broken")
    (folder / "broken" / "model.safetensors").write_bytes(b"nothing")
    assert run(["encode", str(folder / "model"), str(folder / "photos"), "--out", str(folder / "codes")]) == 0
    for name in ("index", "damaged"):
        assert run(["index", str(folder / "model"), str(folder / "photos"), "--out", str(folder / name)]) == 0
    (next((folder / "damaged").glob("images-*.parquet"))).write_bytes(b"PAR1")
    return folder


def test_there_are_hundreds():
    assert len(CALLS) >= 300


@pytest.mark.parametrize("arguments", CALLS, ids=lambda arguments: " ".join(arguments)[:80])
def test_a_wrong_call_takes_one_line_and_writes_nothing(place, monkeypatch, capsys, arguments):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if not path.is_dir()}
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert len(told.err) < 700
    assert told.out == ""
    after = {path: path.stat().st_mtime_ns for path in place.rglob("*") if not path.is_dir()}
    new = {path for path in after if after[path] != before.get(path) and path.name not in (".lock", ".gitignore")}
    assert not new
