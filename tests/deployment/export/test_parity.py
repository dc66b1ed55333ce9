import json

import pytest
import torch

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.encoder import EncodedImages
from brcd_lightning.deployment.export import parity
from brcd_lightning.deployment.export.onnx_model import INT8, OnnxDescription
from brcd_lightning.errors import InputError
from small_encoder import make_encoder, write_images


class Flips:
    """A stand-in for an exported file that flips the first bit of every image whose first pixel is even."""

    description = OnnxDescription(16, "", "student", "", {}, INT8)

    def __init__(self, encoder, flips=True):
        self.encoder, self.flips = encoder, flips

    def __call__(self, pixels):
        codes, values = self.encoder.encode_pixels(pixels)
        codes[:, 0] ^= ((pixels[:, 0, 0, 0] % 2 == 0) & self.flips).to(torch.uint8)
        return EncodedImages(codes, values)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    monkeypatch.setattr(parity, "_ROUNDS", {1: 2, 64: 2})


def test_flipped_bits_are_counted_with_their_logits():
    encoder = make_encoder()
    images = parity.random_images(encoder, 100)
    report = parity.compare(encoder, [Flips(encoder, False), Flips(encoder)], images)
    same, other = report.files
    assert (same.flipped, same.neighbours_kept, same.neighbours_near, same.k) == (0, 1, 1, 10)
    pixels = torch.cat(list(images.batches()))
    even = pixels[:, 0, 0, 0] % 2 == 0
    assert (other.flipped, other.bits) == (int(even.sum()), 1600)
    logits = encoder.network.hashing_model.head(encoder.network.backbone(pixels.float() / 255))[even, 0].abs()
    assert other.largest_flipped_logit == pytest.approx(float(logits.max()), rel=1e-4)
    assert other.neighbours_kept <= other.neighbours_near <= 1


def test_the_report_is_a_table_and_json(tmp_path):
    encoder = make_encoder()
    write_images(tmp_path / "photos", 12)
    images = parity.images_of(encoder, image_names(tmp_path / "photos"), 10)
    report = parity.compare(encoder, [Flips(encoder, False), Flips(encoder)], images)
    text = parity.as_markdown(report)
    assert "10 images: 10 of 12 images of photos." in text
    assert "| bits flipped | 0 of 160 |" in text
    assert "the speed of int8, and" in text
    parity.write_report(report, tmp_path / "a.parity.json")
    written = json.loads((tmp_path / "a.parity.json").read_text())
    assert written["files"][0]["latency"][1]["batch"] == 64


def test_images_that_cannot_be_read_are_left_out(tmp_path):
    encoder = make_encoder()
    write_images(tmp_path / "photos", 3)
    (tmp_path / "photos" / "001.png").write_bytes(b"")
    images = parity.images_of(encoder, image_names(tmp_path / "photos"), 10)
    assert [len(batch) for batch in images.batches()] == [2]
    assert parity.compare(encoder, [Flips(encoder, False)], images).images == 2
    (tmp_path / "photos" / "002.png").write_bytes(b"")
    with pytest.raises(InputError, match="needs at least 2 images of .*photos that can be read"):
        parity.images_of(encoder, image_names(tmp_path / "photos"), 10)


def test_random_images_say_so_and_are_the_same_each_time():
    images = parity.random_images(make_encoder(), 3)
    assert "random" in images.source
    assert torch.equal(images.load(2), parity.random_images(make_encoder(), 3).load(2))


def test_one_image_is_too_few():
    encoder = make_encoder()
    with pytest.raises(InputError, match="needs at least 2 images, got 1"):
        parity.compare(encoder, [Flips(encoder)], parity.random_images(encoder, 1))


def test_few_of_many_are_evenly_spaced():
    assert parity.evenly(range(10), 4) == [0, 2, 5, 7]
    assert parity.evenly(range(3), 4) == [0, 1, 2]
