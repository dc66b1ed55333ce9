"""Push, search and verify with a database, as a user types them."""

import json

import pytest

from brcd_lightning.cli.main import run
from small_encoder import make_encoder, write_images

PHOTO = "photos/a/003.png"


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos" / "a", 30)
    (tmp_path / "photos" / "bad.png").write_bytes(b"")
    make_encoder().save_pretrained(tmp_path / "model", teacher=make_encoder("teacher"))
    make_encoder(seed=1, teacher="another").save_pretrained(tmp_path / "foreign")
    for role in ("student", "teacher"):
        assert run(["encode", "model", "photos", "--out", role, "--role", role]) == 0
    assert run(["index", "model", "photos", "--out", "photos.brcd"]) == 0
    capsys.readouterr()
    return tmp_path


@pytest.fixture(params=["postgres", "lance"])
def address(request, tmp_path):
    if request.param == "postgres":
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        return request.getfixturevalue("postgres_address")
    pytest.importorskip("lancedb", reason="lancedb is not installed")
    return f"lance://{tmp_path}/a folder"


def answers(capsys, *arguments):
    assert run(["search", *arguments, "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    return query["hits"], query["empty_slots"]


def test_from_codes_to_neighbours(place, address, capsys):
    assert run(["push", "student", "--to", address]) == 0
    told = capsys.readouterr().out
    assert "Pushed 30 codes of 16 bits (flat)" in told
    assert "; left out, 1 that could not be read\n" in told
    assert "They are in table brcd_codes of " in told
    for more in ([], ["--rescore"], ["--max-distance", "4"], ["-k", "100"]):
        hits, empty = answers(capsys, address, PHOTO, "--model", "model", *more)
        assert (hits, empty) == answers(capsys, "photos.brcd", PHOTO, *more)
    assert run(["search", address, PHOTO, "--model", "model", "-k", "2", "--html", "page.html"]) == 0
    first, best, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{PHOTO}: decode ")
    assert best.split() == ["0", "a/003.png"]
    assert (place / "page.html").read_text().count("data:image/jpeg") == 3
    assert run(["search", address, PHOTO, "--model", "model", "-0", "-k", "1"]) == 0
    assert capsys.readouterr().out == f"{place}/{PHOTO}\0"
    assert run(["verify", address, "--queries", "20", "--model", "model"]) == 0
    assert "30 images, flat; 20 queries" in (told := capsys.readouterr().out)
    assert "recall 1.0000, empty slots 0" in told


def test_codes_of_the_teacher_in_another_table(place, address, capsys):
    for role in ("student", "teacher"):
        assert run(["push", role, "--to", address, "--table", f"by_{role}"]) == 0
    capsys.readouterr()
    hits, _ = answers(capsys, address, PHOTO, "--model", "model", "--table", "by_teacher")
    assert len(hits) == 10
    assert run(["search", address, PHOTO, "--model", "model"]) == 2
    assert "brcd_codes" in capsys.readouterr().err
    assert run(["push", "teacher", "--to", address, "--table", "by_student", "--replace"]) == 0
    capsys.readouterr()
    assert answers(capsys, address, PHOTO, "--model", "model", "--table", "by_student") == (hits, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "student"], "in table 'brcd_codes' already; replace them by --replace, or name another --table"),
        (["push", "teacher"], "in table 'brcd_codes' already; replace them by --replace, or name another --table"),
        (["push", "photos"], "photos is not a folder of codes that brcd encode has written"),
        (["push", "student", "--table", "x", "--kind", "tree"], "--kind must be one of flat, "),
        (["search", PHOTO], "holds codes and no model; give the model of the queries by --model"),
        (["search", PHOTO, "--model", "foreign"], "makes other ones; query it with its own model"),
        (["verify", "--model", "foreign"], "makes other ones; query it with its own model"),
        (["verify", "--table", "nothing"], "holds no table 'nothing'; push codes there by brcd push"),
    ],
)
def test_mistakes_take_one_line(place, address, capsys, arguments, message):
    assert run(["push", "student", "--to", address]) == 0
    capsys.readouterr()
    command, *more = arguments
    assert run([command, *more, "--to", address] if command == "push" else [command, address, *more]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_folders_have_no_tables(place, capsys):
    assert run(["search", "photos.brcd", PHOTO, "--table", "x"]) == 2
    assert "--table 'x' is for databases, and photos.brcd is a folder; leave it out" in capsys.readouterr().err
    assert run(["verify", "mysql://u:secret@host/db"]) == 2
    assert "a database must be postgresql://USER@HOST/DATABASE" in (told := capsys.readouterr().err)
    assert "secret" not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["dedup", "postgresql://me:secret@host/db"],
        ["serve", "postgresql://me:secret@host/db"],
        ["index", "postgresql://me:secret@host/db", "photos", "--out", "x"],
        ["push", "student", "--to", "lance://x", "postgresql://me:secret@host/db"],
        ["search", "postgresql://me:se/cret@host/db", PHOTO, "--model", "model"],
        ["verify", "postgresql://me:secret@127.0.0.1:1/db"],
    ],
)
def test_no_command_prints_a_password(place, capsys, monkeypatch, arguments):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert "cret" not in told.out + told.err
    assert "postgresql:/" in told.err
