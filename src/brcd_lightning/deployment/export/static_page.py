"""A static site for any web server: images are encoded and searched in the browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.parts import read_description, read_readable
from brcd_lightning.deployment.encoding.thumbnails import thumbnail
from brcd_lightning.errors import InputError
from brcd_lightning.storage.atomic import atomic_path, write_text

ASSETS = ("app.js", "preprocess.js", "search.js", "style.css", "index.html")
"""Files of the page in this package; the last one marks the folder as complete."""
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
CDN = "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/"


class Page(NamedTuple):
    """Summary of a written page."""

    images: int
    """Number of images that the page searches."""
    left_out: int
    """Images that could not be read during encoding."""
    without_thumbnail: int
    """Images that are missing or damaged now."""
    runtime: str
    """URL of ONNX Runtime's files, relative if they are stored with the page."""


def write_page(folder: Path, encoder: HashEncoder, model: Path, codes: Path, runtime: Path | None = None) -> Page:
    """Writes the page, replacing an earlier one.

    Args:
        folder: empty, missing, or with an earlier page.
        encoder: of the queries.
        model: ONNX file of the encoder.
        codes: folder of codes in the same Hamming space.
        runtime: folder ``dist`` of the npm package onnxruntime-web, whose files are copied; `CDN` when None.

    Raises:
        InputError: if the codes live in another Hamming space, or the folder has other content.
    """
    description = read_description(codes)
    if (description.teacher, description.bits) != (encoder.description.teacher, encoder.bits):
        raise InputError(
            f"{codes} holds codes of {description.bits} bits of teacher {description.teacher}, the model makes "
            f"{encoder.bits} bits of {encoder.description.teacher}; encode the images by this model or its teacher."
        )
    if description.role == encoder.role and description.encoder != encoder.fingerprint:
        raise InputError(
            f"{codes} holds codes of another {encoder.role}, {description.encoder}; encode the images anew."
        )
    _begin(folder)
    address = CDN if runtime is None else _copy_runtime(runtime, folder / "ort")
    paths, packed = read_readable(codes)
    with atomic_path(folder / "codes.bin") as temporary:
        packed.tofile(temporary)
    write_text(folder / "paths.json", json.dumps(paths, ensure_ascii=False))
    about = {"bits": encoder.bits, "transform": dict(encoder.description.transform), "runtime": address}
    about |= {"encoder": encoder.fingerprint, "codes": description.encoder}
    write_text(folder / "about.json", json.dumps(about, indent=1) + "\n")
    _copy(model, folder / "student.onnx")
    missing = _write_thumbnails(folder / "thumbs", Path(description.root), paths)
    for name in ASSETS:
        with resources.as_file(resources.files("brcd_lightning.deployment.export") / "page" / name) as asset:
            _copy(asset, folder / name)
    return Page(len(paths), description.count - len(paths), missing, address)


def _begin(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "codes.bin").is_file():
        raise InputError(f"{folder} is not empty and holds no page; choose another folder.")
    (folder / "index.html").unlink(missing_ok=True)
    shutil.rmtree(folder / "thumbs", ignore_errors=True)


def _copy_runtime(source: Path, target: Path) -> str:
    """Copies ONNX Runtime's files and returns their relative URL."""
    missing = [name for name in RUNTIME_FILES if not (source / name).is_file()]
    if missing:
        raise InputError(f"{source} lacks {', '.join(missing)}; give package/dist of: npm pack onnxruntime-web.")
    for name in RUNTIME_FILES:
        _copy(source / name, target / name)
    return f"{target.name}/"


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _write_thumbnails(folder: Path, root: Path, paths: Sequence[str]) -> int:
    """Writes ``POSITION.jpg`` for each image and returns the number of missing or damaged images."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(position: int) -> bool:
        content = thumbnail(root / paths[position])
        if content is not None:
            (folder / f"{position}.jpg").write_bytes(content)
        return content is not None

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return sum(not written for written in pool.map(write, range(len(paths))))
