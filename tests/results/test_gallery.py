from dataclasses import replace

import torch
from matplotlib.figure import Figure
from PIL import Image

from brcd_lightning.data.sources import ArrayImages
from brcd_lightning.results.gallery import HIT, MISS, choose_queries, save_gallery
from conftest import random_codes


def to_rgb(color):
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def test_frames_are_green_for_hits_and_red_for_misses(tmp_path, splits, generator):
    query, database = (splits.labels(role) for role in ("query", "database"))
    prototypes = random_codes(4, 16, generator)
    perfect, wrong = prototypes[database], prototypes[(database + 1) % 4]
    for name, codes, seen, unseen in (("good", perfect, HIT, MISS), ("bad", wrong, MISS, HIT)):
        tables = {
            "student_query": (prototypes[query], query),
            "student_database": (codes, database),
            "teacher_database": (codes, database),
        }
        scores = torch.arange(len(query)).double()
        save_gallery(tmp_path / f"{name}.png", splits, tables, scores, "test", num_queries=3, top=4)
        colors = {color for _, color in Image.open(tmp_path / f"{name}.png").convert("RGB").getcolors(1 << 20)}
        assert to_rgb(seen) in colors
        assert to_rgb(unseen) not in colors


def test_without_labels_frames_are_green_for_neighbours(tmp_path, splits, generator, monkeypatch):
    titles = []
    monkeypatch.setattr(Figure, "suptitle", lambda figure, title, **_: titles.append(title))
    ids = torch.arange(len(splits.database))
    codes = random_codes(len(ids), 16, generator)
    lists = torch.arange(4)[None] + 7 * torch.arange(3)[:, None]
    tables = {"student_query": (codes[lists[:, 0]], lists), "student_database": (codes, ids)}
    tables["teacher_database"] = tables["student_database"]
    save_gallery(tmp_path / "g.png", replace(splits, neighbours=4), tables, torch.zeros(3), "test", top=1)
    colors = {color for _, color in Image.open(tmp_path / "g.png").convert("RGB").getcolors(1 << 20)}
    assert to_rgb(HIT) in colors
    assert "green: one of the 4 nearest images by cosine" in titles[0]


def captions(monkeypatch):
    """The texts that are drawn, in order."""
    texts = []
    write = Figure.text

    def text(figure, x, y, text, **options):
        if options["fontsize"] < 10:  # not a title
            texts.append(text)
        return write(figure, x, y, text, **options)

    monkeypatch.setattr(Figure, "text", text)
    return texts


def test_every_image_is_named_by_its_class(tmp_path, splits, monkeypatch):
    splits.source.classes = ["cat", "dog", "a very long name", "$x"]
    codes = torch.ones(len(splits.database), 8, dtype=torch.int8)
    tables = dict.fromkeys(
        ("student_query", "student_database", "teacher_database"), (codes, splits.labels("database"))
    )
    texts = captions(monkeypatch)
    save_gallery(tmp_path / "g.png", splits, tables, torch.zeros(3), "test", num_queries=1, top=2)
    shown = [int(splits.source.labels[splits.query[0]]), *splits.labels("database")[:2].tolist()]
    short = ["cat", "dog", "a very long…", "$x"]
    expected = [text for kind, label in zip(("best", "0", "0"), shown, strict=True) for text in (kind, short[label])]
    assert texts == 2 * expected


def test_several_classes_are_joined_and_classes_without_names_are_numbers(tmp_path, splits, monkeypatch):
    splits.source.labels = torch.nn.functional.one_hot(splits.source.labels).fill_(0)
    splits.source.labels[:, 1:3] = 1
    codes = torch.ones(len(splits.database), 8, dtype=torch.int8)
    tables = dict.fromkeys(
        ("student_query", "student_database", "teacher_database"), (codes, splits.labels("database"))
    )
    texts = captions(monkeypatch)
    for splits.source.classes, expected in (([], "class 1, 2"), (["cat", "dog", "emu"], "dog, emu")):
        texts.clear()
        save_gallery(tmp_path / "g.png", splits, tables, torch.zeros(3), "test", num_queries=1, top=1)
        assert texts[1::2] == [expected] * 4


def test_without_labels_images_are_named_by_their_files(tmp_path, splits, monkeypatch):
    splits.source.ids = [f"folder/photograph_{place:03}.jpg" for place in range(len(splits.source))]
    ids = torch.arange(len(splits.database))
    codes = torch.ones(len(ids), 8, dtype=torch.int8)
    tables = {"student_query": (codes[:3], torch.arange(12).view(3, 4)), "student_database": (codes, ids)}
    tables["teacher_database"] = tables["student_database"]
    texts = captions(monkeypatch)
    save_gallery(tmp_path / "g.png", replace(splits, neighbours=4), tables, torch.zeros(3), "test", 1, 1)
    query, found = (f"…aph_{int(places[0]):03}.jpg" for places in (splits.query, splits.database))
    assert texts[:4] == ["best", query, "0", found]


def test_small_databases_show_what_there_is(tmp_path, splits):
    codes = (torch.ones(3, 8, dtype=torch.int8), torch.tensor([0, 1, 2]))
    tables = dict.fromkeys(("student_query", "student_database", "teacher_database"), codes)
    save_gallery(tmp_path / "g.png", splits, tables, torch.zeros(3), "test")
    assert (tmp_path / "g.png").stat().st_size > 1000


def test_the_best_some_and_the_worst_queries_are_shown():
    scores = torch.tensor([0.5, 0.9, 0.1, 0.7, 0.3, 0.2, 0.6])
    kinds = choose_queries(scores, 6)
    assert list(kinds.values()) == ["best", "best", "random", "random", "worst", "worst"]
    assert list(kinds)[:2] == [1, 3]
    assert list(kinds)[-2:] == [5, 2]
    assert set(list(kinds)[2:4]) < {0, 4, 6}
    assert choose_queries(scores, 6) == kinds
    for count in range(1, 8):
        assert len(choose_queries(scores, count)) == count


def test_images_keep_their_shape_and_colours(tmp_path, splits):
    source = splits.source
    pixels = torch.zeros(len(source.ids), 3, 8, 16, dtype=torch.uint8)
    pixels[:, 2] = 200
    codes = (torch.ones(3, 8, dtype=torch.int8), torch.tensor([0, 1, 2]))
    tables = dict.fromkeys(("student_query", "student_database", "teacher_database"), codes)
    wide = replace(splits, source=ArrayImages(pixels, source.ids, source.labels))
    save_gallery(tmp_path / "g.png", wide, tables, torch.zeros(3), "test", num_queries=1, top=1)
    colors = {color: count for count, color in Image.open(tmp_path / "g.png").convert("RGB").getcolors(1 << 20)}
    assert colors[0, 0, 200] == 4 * 64 * 32  # a query and a result, twice, inside frames of 72 pixels
