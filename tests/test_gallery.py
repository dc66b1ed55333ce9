import torch
from PIL import Image

from brcd_lightning.gallery import HIT, MISS, save_gallery
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
        save_gallery(tmp_path / f"{name}.png", splits, tables, "test", num_queries=3, top=4)
        colors = {color for _, color in Image.open(tmp_path / f"{name}.png").convert("RGB").getcolors(1 << 20)}
        assert to_rgb(seen) in colors
        assert to_rgb(unseen) not in colors


def test_small_databases_show_what_there_is(tmp_path, splits):
    codes = (torch.ones(3, 8, dtype=torch.int8), torch.tensor([0, 1, 2]))
    tables = dict.fromkeys(("student_query", "student_database", "teacher_database"), codes)
    save_gallery(tmp_path / "g.png", splits, tables, "test")
    assert (tmp_path / "g.png").stat().st_size > 1000
