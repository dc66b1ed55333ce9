import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from brcd_lightning.data.image_names import image_names
from brcd_lightning.data.transforms import digit_images, natural_images
from brcd_lightning.deployment.encoding.corpus import EncodeOptions, encode_corpus
from brcd_lightning.deployment.export.onnx_model import export_onnx
from brcd_lightning.deployment.export.static_page import ASSETS, RUNTIME_FILES, write_page
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from conftest import ROOT
from headless_browser import CHROMIUM, ORT_WEB, answer_of
from small_encoder import make_encoder, write_images

PAGE = ROOT / "src" / "brcd_lightning" / "deployment" / "export" / "page"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or ORT_WEB is None, reason="needs Chromium, and BRCD_ORT_WEB=package/dist of onnxruntime-web"
)


@pytest.fixture
def place(tmp_path):
    """A model, images with one that is damaged, and their codes."""
    encoder = make_encoder()
    write_images(tmp_path / "photos", 30, size=(40, 30))
    (tmp_path / "photos" / "004.png").write_bytes(b"")
    export_onnx(encoder, tmp_path / "model.onnx")
    encode_corpus(encoder, image_names(tmp_path / "photos"), tmp_path / "codes", EncodeOptions(progress=False))
    return tmp_path


def node(folder, script):
    """What a module script beside the page's files prints, as JSON."""
    for path in PAGE.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "script.js").write_text(script)
    done = subprocess.run(["node", "script.js"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize(
    ("transform", "told"),
    [
        (natural_images(16, True), {"type": "natural_images", "size": 16, "center_crop": True}),
        (natural_images(224, True), {"type": "natural_images", "size": 224}),
        (natural_images(33, False), {"type": "natural_images", "size": 33, "center_crop": False}),
        (digit_images(16), {"type": "digit_images", "size": 16}),
    ],
)
@pytest.mark.parametrize("size", [(40, 30), (31, 57), (16, 16), (333, 250), (5, 3)])
def test_the_browser_prepares_images_as_the_encoder(tmp_path, transform, told, size):
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = {
        "data": np.array(to_pil_image(pixels).convert("RGBA")).ravel().tolist(),
        "height": size[0],
        "width": size[1],
    }
    (tmp_path / "image.json").write_text(json.dumps([image, told]))
    found = node(
        tmp_path,
        """import { prepare } from "./preprocess.js"; import { readFileSync } from "node:fs";
        const [image, told] = JSON.parse(readFileSync("image.json"));
        console.log(JSON.stringify([...prepare(image, told)]));""",
    )
    expected = transform.evaluation(pixels).flatten().tolist()
    apart = np.abs(np.subtract(found, expected))
    assert apart.max() <= 1  # processors without AVX2 resize in floating point
    assert (apart > 0).mean() < 0.02


@needs_node
def test_the_browser_finds_what_the_index_finds(tmp_path):
    codes = torch.randint(0, 4, (500, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "codes.bin").write_bytes(codes.numpy().tobytes())
    found = node(
        tmp_path,
        """import { nearest } from "./search.js"; import { readFileSync } from "node:fs";
        const codes = new Uint8Array(readFileSync("codes.bin"));
        const of = (i) => nearest(codes.slice(3 * i, 3 * i + 3), codes, 40).map((h) => [h.position, h.distance]);
        console.log(JSON.stringify([of(0), of(7), nearest(codes.slice(0, 3), codes, 999).length]));""",
    )
    expected = HammingIndex.build(codes, bits=24, kind="flat").search(codes[[0, 7]], 40)
    for row, hits in enumerate(found[:2]):
        assert [hit[0] for hit in hits] == expected.ids[row].tolist()
        assert [hit[1] for hit in hits] == expected.distances[row].tolist()
    assert found[2] == 500


@needs_browser
def test_the_page_finds_what_the_index_finds(place):
    encoder = make_encoder()
    write_page(place / "page", encoder, place / "model.onnx", place / "codes", ORT_WEB)
    write_images(place / "page" / "queries", 20, size=(50, 41), seed=7)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    with Image.open(place / "page" / "queries" / "004.png") as image:
        image.resize((500, 410)).save(place / "page" / "queries" / "turned.jpg", quality=95, exif=exif)
        image.putalpha(128)
        image.save(place / "page" / "queries" / "clear.png")
    names = [f"queries/{number:03d}.png" for number in range(20)] + ["queries/turned.jpg", "queries/clear.png"]
    found = answer_of(
        place / "page",
        f"const names = {json.dumps(names)};"
        """const { encode, search } = await import("./app.js"); const found = [];
        for (const name of names) {
          const code = await encode(await (await fetch(name)).blob());
          found.push({ code: [...code], hits: await search(code, 10) });
        }
        post(found);""",
        place / "profile",
    )
    assert isinstance(found, list), found
    paths = json.loads((place / "page" / "paths.json").read_text())
    codes = torch.from_numpy(np.fromfile(place / "page" / "codes.bin", np.uint8).reshape(-1, 2))
    queries = encoder.encode([place / "page" / name for name in names])
    expected = HammingIndex.build(codes, bits=16, kind="flat").search(queries, 10)
    assert [each["code"] for each in found] == queries.tolist()
    for row, each in enumerate(found):
        assert [hit["distance"] for hit in each["hits"]] == expected.distances[row].tolist()
        assert [hit["path"] for hit in each["hits"]] == [paths[position] for position in expected.ids[row]]


def test_the_folder_is_whole_and_can_be_written_again(place):
    (place / "photos" / "007.png").unlink()
    for _ in range(2):
        page = write_page(place / "page", make_encoder(), place / "model.onnx", place / "codes")
    assert (page.images, page.left_out, page.without_thumbnail) == (29, 1, 1)
    assert page.runtime.startswith("https://cdn.jsdelivr.net/npm/onnxruntime-web@")
    names = {path.name for path in (place / "page").iterdir()}
    assert names == {*ASSETS, "about.json", "codes.bin", "paths.json", "student.onnx", "thumbs"}
    assert len(list((place / "page" / "thumbs").iterdir())) == 28
    assert (place / "page" / "codes.bin").stat().st_size == 58


def test_the_runtime_is_copied(place):
    (place / "dist").mkdir()
    for name in RUNTIME_FILES[1:]:
        (place / "dist" / name).write_text(name)
    with pytest.raises(InputError, match=r"lacks ort.wasm.min.mjs; give package/dist"):
        write_page(place / "page", make_encoder(), place / "model.onnx", place / "codes", place / "dist")
    (place / "dist" / RUNTIME_FILES[0]).write_text("")
    page = write_page(place / "other", make_encoder(), place / "model.onnx", place / "codes", place / "dist")
    assert page.runtime == "ort/"
    assert {path.name for path in (place / "other" / "ort").iterdir()} == set(RUNTIME_FILES)


def test_what_does_not_belong_together_is_refused(place):
    with pytest.raises(
        InputError, match="codes of 16 bits of teacher 0123456789abcdef, the model makes 16 bits of other"
    ):
        write_page(place / "page", make_encoder(teacher="other"), place / "model.onnx", place / "codes")
    with pytest.raises(InputError, match="codes of another student"):
        write_page(place / "page", make_encoder(seed=1), place / "model.onnx", place / "codes")
    with pytest.raises(InputError, match="not empty and holds no page"):
        write_page(place / "photos", make_encoder(), place / "model.onnx", place / "codes")
