"""Names for readers: of classes, of the labels of an image, and of data sets."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the configuration names data sets before torch is loaded
    from torch import Tensor

_FOLDERS = ("image_folder", "image_list", "images")
_HUB = "huggingface"
OWN_NAMES = (*_FOLDERS, _HUB)
"""Options of ``dataset`` that say nothing of the images; their data sets have names of their own."""


def printable(text: str) -> str:
    """One line of text without control characters, which file names may contain."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def shortened(text: str, most: int) -> str:
    """Text of at most `most` characters, with an ellipsis where the end is left out."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip(' ,')}…"


def class_names(classes: Sequence[str], count: int) -> list[str]:
    """Names of the first `count` classes; the number of a class without a name."""
    return [classes[label] if label < len(classes) and classes[label] else str(label) for label in range(count)]


def label_text(label: Tensor, classes: Sequence[str]) -> str:
    """Names of the classes of an image, joined by commas.

    Args:
        label: class index (), or multi-hot row (C,).
        classes: names of the classes; numbers follow the word "class" if it is empty.
    """
    labels = [int(label)] if label.ndim == 0 else label.nonzero().flatten().tolist()
    if not labels:
        return "no label"
    names = class_names(classes, max(labels) + 1)
    return ("" if classes else "class ") + ", ".join(names[each] for each in labels)


def names_of_folders(folders: Sequence[str]) -> list[str]:
    """Names of class folders; for folders that are all WordNet ids of ImageNet, the English word of each.

    The id follows a word that means several classes, such as crane.
    """
    if not all(re.fullmatch(r"n\d{8}", folder) for folder in folders):
        return list(folders)
    from timm.data.imagenet_info import ImageNetInfo  # noqa: PLC0415 (slow import)

    known = ImageNetInfo()
    if not set(folders) <= set(known.label_names()):
        return list(folders)
    words = [known.label_name_to_description(folder).partition(",")[0] for folder in folders]
    several = Counter(words)
    return [f"{word} ({folder})" if several[word] > 1 else word for word, folder in zip(words, folders, strict=True)]


def dataset_name(choice: str, options: Mapping[Any, Any], working_directory: str = "") -> str:
    """Name of a data set for readers.

    Args:
        choice: chosen option of the group ``dataset``. It is the name, unless it is one of `OWN_NAMES`: then the name
            is that of the folder, without its parents, or that on the Hugging Face hub.
        options: options of the data set.
        working_directory: folder that a relative ``root`` such as ``.`` starts from, if known.
    """
    folder = options.get("root") if choice in _FOLDERS else None
    if choice == _HUB:
        hub = options.get("name")
        if isinstance(hub, str) and re.fullmatch(r"\w[\w.-]*/[\w.-]+", hub):
            return hub
        folder = options.get("data_dir") or hub  # a loader of local files, or a path
    if not isinstance(folder, str):
        return choice
    last = os.path.basename(os.path.normpath(os.path.join(working_directory, os.path.expanduser(folder))))
    return (last not in (".", "..") and printable(last)) or choice
