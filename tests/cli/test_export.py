import json

import pytest

from brcd_lightning.cli import export
from brcd_lightning.cli.main import run
from brcd_lightning.deployment.export import parity
from small_encoder import make_encoder, write_images


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parity, "_ROUNDS", {1: 2, 64: 2})
    write_images(tmp_path / "photos", 12)
    make_encoder().save_pretrained(tmp_path / "model", teacher=make_encoder("teacher"))
    return tmp_path


def test_a_file_with_its_comparison(place, capsys):
    assert run(["export", "model", "--onnx", "student.onnx", "--int8", "--images", "photos"]) == 0
    told = capsys.readouterr().out
    assert "12 images: 12 of 12 images of photos." in told
    assert "| bits flipped | 0 of 192 |" in told
    assert {path.name for path in place.glob("student*")} == {
        "student.onnx",
        "student.int8.onnx",
        "student.parity.json",
    }
    assert [each["precision"] for each in json.loads((place / "student.parity.json").read_text())["files"]] == [
        "float32",
        "int8",
    ]


def test_a_teacher_without_images_is_compared_on_random_ones(place, capsys):
    assert run(["export", "model", "--onnx", "teacher.onnx", "--role", "teacher"]) == 0
    assert "random pixels" in capsys.readouterr().out


def test_a_page(place, capsys):
    assert run(["encode", "model", "photos", "--out", "codes"]) == 0
    assert run(["export", "model", "--static", "page", "--codes", "codes"]) == 0
    assert "The page is in page: 12 images\n" in capsys.readouterr().out
    assert (place / "page" / "index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to write; give --onnx FILE"),
        (["--static", "page"], "--static DIR and --codes CODES belong together"),
        (["--static", "page", "--codes", "codes", "--int8"], "--int8 and --images belong to --onnx FILE"),
        (["--onnx", "student"], "--onnx must end in .onnx, got student"),
        (["--onnx", "a.onnx", "--count", "0"], "--count must be an integer in 2..1000000, got '0'"),
    ],
)
def test_mistakes_take_one_line(place, capsys, arguments, message):
    assert run(["export", "model", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_packages_are_named(place, monkeypatch, capsys):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert run(["export", "model", "--onnx", "a.onnx"]) == 2
    assert capsys.readouterr().err == "error: onnxscript not installed: pip install 'brcd_lightning[onnx]'.\n"
