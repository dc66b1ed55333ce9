"""The README stays short, and its examples work."""

import re

import torch

from conftest import random_codes
from documents import commands, own_command, read, run_example
from small_encoder import make_encoder, write_images

TEXT = read("README.md")


def test_it_fits_on_two_screens():
    assert len(TEXT.splitlines()) <= 150


def test_there_are_commands_to_use_and_to_experiment():
    names = [own[0] for words in commands("README.md") if (own := own_command(words))]
    assert {"train", "index", "search"} <= set(names)


def test_tables_have_at_most_ten_rows():
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, flags=re.MULTILINE):
        assert table.count("\n") <= 2 + 10


def test_the_example_search_works(generator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes, ids = random_codes(500, 64, generator), torch.arange(500) + 7
    scope = run_example(
        "docs/search.md",
        "HammingIndex.build(database_codes",
        database_codes=codes,
        image_ids=ids,
        query_codes=codes[:3],
        query_values=codes[:3] * 0.5,
    )
    assert scope["found"].ids[:, 0].tolist() == [7, 8, 9]
    assert scope["found"].ids.shape == scope["found"].scores.shape == (3, 100)
    assert scope["index"].kind == "sharded"


def test_the_encoder_example_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = write_images(tmp_path / "photos")
    make_encoder().save_pretrained(tmp_path / "run")
    photos = [tmp_path / "photos" / name for name in names]
    scope = run_example("README.md", "HashEncoder.from_pretrained", RUN="run", photos=photos, query=photos[3])
    assert scope["found"].ids[0, 0] == 3
    assert scope["found"].distances[0, 0] == 0
    assert (tmp_path / "my-encoder" / "README.md").exists()
