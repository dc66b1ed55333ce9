"""Small data sets in the forms in which the real ones come, one function for each data set that needs files.

A function has the name of its YAML in ``conf/dataset``, writes the files, and returns the options that a run needs.
"""

import itertools
import json

import pytest
from PIL import Image

from brcd_lightning.config import CONFIG_DIR
from brcd_lightning.data.imagenet100 import CLASSES


def write_image(path, shade=0, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade % 256, shade // 256, 0)).save(path)


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def multi_hot(numbers, width):
    return " ".join("1" if place in numbers else "0" for place in range(width))


def mscoco(root, images=24, year="2014", categories=("zebra", "apple", "car")):
    """Every image shows category ``number % 3``, every fourth also the next; two images show nothing."""
    counts = {"train": images * 2 // 3, "val": images - images * 2 // 3}
    numbers = itertools.count(100, 7)
    for part, count in counts.items():
        listed, instances = [], []
        for place in range(count):
            number = next(numbers)
            file = f"COCO_{part}2014_{number:012}.jpg" if year == "2014" else f"{number:012}.jpg"
            write_image(root / f"{part}{year}" / file, number)
            listed.append({"id": number, "file_name": file})
            if place == 0:
                continue  # without an instance
            kinds = {number % 3, (number + 1) % 3} if place % 4 == 0 else {number % 3}
            instances += [{"image_id": number, "category_id": 10 * kind} for kind in sorted(kinds) * 2]
        content = {
            "images": listed[::-1],
            "annotations": instances,
            "categories": [{"id": 10 * kind, "name": name} for kind, name in enumerate(categories)],
        }
        path = root / "annotations" / f"instances_{part}{year}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return {"root": str(root), "num_query": 5, "num_train": 6, "num_val_query": 3, "num_categories": 3}


def imagenet100(root):
    """Three training images and one validation image of each class, and a class that is none of the hundred."""
    for label, name in enumerate((*CLASSES, "n99999999")):
        for number in range(3):
            write_image(root / "train" / name / f"{name}_{number}.JPEG", 4 * label + number)
        write_image(root / "val" / name / f"ILSVRC2012_val_{label:08}.JPEG", 4 * label + 3)
    return {"root": str(root), "train_per_class": 1, "val_query_per_class": 1}


def nuswide21(root):
    """Forty images of three concepts; the rarest one is left out, and ten images have none of the other two."""
    names = [f"actor\\{number:04}.jpg" for number in range(40)]
    write_lines(root / "ImageList" / "Imagelist.txt", names)
    concepts = {"sky": range(0, 20), "sea": range(10, 30), "rare": range(38, 40)}
    for concept, members in concepts.items():
        lines = [str(int(number in members)) for number in range(40)]
        write_lines(root / "Groundtruth" / "AllLabels" / f"Labels_{concept}.txt", lines)
    for number, name in enumerate(names):
        write_image(root / name.replace("\\", "/"), number)
    return {
        "root": str(root),
        "num_concepts": 2,
        "query_per_concept": 2,
        "train_per_concept": 3,
        "num_val_query": 2,
    }


def mirflickr25k(root):
    """Thirty images of two labels, ten of them without any."""
    write_lines(root / "annotations" / "sky.txt", [str(number) for number in range(1, 16)])
    write_lines(root / "annotations" / "sea.txt", [str(number) for number in range(10, 21)])
    write_lines(root / "annotations" / "sea_r1.txt", ["10"])
    for number in range(1, 31):
        write_image(root / f"im{number}.jpg", number)
    counts = {"num_query": 4, "num_train": 6, "num_val_query": 3}
    return {"root": str(root), "num_images": 30, "num_labels": 2, **counts}


def image_list(root):
    """Thirty images of three classes in one text file."""
    names = [f"pictures/{number}.png" for number in range(30)]
    for number, name in enumerate(names):
        write_image(root / name, number)
    write_lines(root / "all.txt", [f"{name} {number % 3}" for number, name in enumerate(names)])
    return {"root": str(root), "images": "all.txt", "num_query": 5, "num_train": 8, "num_val_query": 3}


def images(root):
    """Forty images without labels, at two depths."""
    for number in range(40):
        write_image(root / ("deep" if number % 2 else "") / f"{number}.png", number)
    return {"root": str(root)}


def image_folder(root, shades=lambda part, label, number: 20 * number):
    """Two classes of six training and two test images each."""
    for part, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                write_image(root / part / name / f"{number:03}.png", shades(part, label, number))
    return {"root": str(root), "train_per_class": 3, "val_query_per_class": 1}


def cifar10(root):
    """Image files instead of the official archive."""
    return image_folder(root)


def huggingface(root):
    """The library's loader of local folders; an image's shade says its class, number and split."""
    pytest.importorskip("datasets")
    counts = image_folder(root, lambda part, label, number: 100 * label + 10 * number + (part == "test"))
    return {"name": "imagefolder", "data_dir": counts.pop("root"), **counts}


DATA_SETS = sorted(path.stem for path in (CONFIG_DIR / "dataset").glob("*.yaml"))
ALL = {name: globals()[name] for name in DATA_SETS if name in globals()}
"""The function above of every data set that has one, by its name in ``conf/dataset``; the others need no files."""
