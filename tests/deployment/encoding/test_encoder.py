import pytest
import torch
from PIL import Image

from brcd_lightning.codes import pack, sign
from brcd_lightning.data.image_scan import read_image
from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.errors import InputError
from small_encoder import make_encoder, write_images


@pytest.fixture
def encoder():
    return make_encoder()


@pytest.fixture
def paths(tmp_path):
    return [tmp_path / name for name in write_images(tmp_path)]


def test_codes_are_those_of_the_network_under_the_evaluation_transform(encoder, paths):
    transforms = encoder.description.build_transforms()
    prepared = torch.stack([transforms.evaluation(read_image(path)) for path in paths])
    logits = encoder.network.hashing_model.head(encoder.network.backbone(prepared.float() / 255))
    found = encoder.encode_soft(paths)
    assert torch.equal(found.codes, pack(sign(logits).to(torch.int8)))
    assert torch.allclose(found.values, encoder.network.hashing_model.soft(logits), atol=1e-5)
    assert len(found.codes.unique(dim=0)) > 3, "or the comparison says nothing"


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_paths_pictures_and_tensors_give_the_same_codes(encoder, paths, batch_size):
    expected = encoder.encode(paths)
    for images in (
        [str(path) for path in paths],
        [Image.open(path) for path in paths],
        [read_image(path) for path in paths],
    ):
        assert torch.equal(encoder.encode(images, batch_size), expected)
    assert torch.equal(encoder.encode(paths[0]), expected[:1]), "one image alone"
    assert torch.allclose(encoder.values(paths[:2]), encoder.encode_soft(paths).values[:2], atol=1e-6)


def test_after_a_warm_up_the_first_images_wait_for_nothing(encoder, monkeypatch):
    expected = encoder.encode_pixels(torch.ones(1, 3, 16, 16, dtype=torch.uint8)).codes
    other = HashEncoder(encoder.network, encoder.description).warm_up()
    monkeypatch.setattr("brcd_lightning.deployment.encoding.encoder.folded", None)
    assert torch.equal(other.encode_pixels(torch.ones(1, 3, 16, 16, dtype=torch.uint8)).codes, expected)


def test_no_images_give_no_codes(encoder):
    assert encoder.encode([]).shape == (0, 2)
    assert encoder.values([]).shape == (0, 16)


def test_mistakes_are_named(encoder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    for image, message in (
        (tmp_path / "bad.png", r"bad.png cannot be decoded: it has no image format that PIL knows"),
        (tmp_path / "none.png", "none.png cannot be decoded"),
        (torch.ones(3, 4, 4), r"must be \(3, H, W\) uint8 RGB, got \(3, 4, 4\) torch.float32"),
        (torch.ones(4, 4, dtype=torch.uint8), r"got \(4, 4\) torch.uint8"),
    ):
        with pytest.raises(InputError, match=message):
            encoder.encode(image)
    with pytest.raises(InputError, match="batch_size must be a positive integer"):
        encoder.encode([], batch_size=0)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:x", "cuda:99", 3.5])
def test_a_device_that_cannot_be_used_is_named(encoder, tmp_path, device):
    encoder.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"device .* cannot be used: .*; choose cpu or cuda\."):
        HashEncoder.from_pretrained(tmp_path, device=device)


def test_the_fingerprint_says_whether_codes_may_be_compared(encoder):
    assert encoder.fingerprint == make_encoder().fingerprint
    others = [
        make_encoder(seed=1),
        make_encoder(bits=8),
        make_encoder(transform={"type": "natural_images", "size": 16, "center_crop": False}),
        make_encoder("teacher"),
    ]
    assert len({encoder.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_what_is_no_encoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="holds no student; give the folder of a finished run"):
        HashEncoder.from_pretrained(tmp_path)
    for name in ("nobody/nothing", "nothing", "a/b/c/d"):
        with pytest.raises(InputError, match=f"{name} is (not|neither) a folder"):
            HashEncoder.from_pretrained(name)


def test_weights_of_another_network_are_refused(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "one")
    make_encoder(bits=24).save_pretrained(tmp_path / "two")
    (tmp_path / "one" / "model.safetensors").write_bytes((tmp_path / "two" / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="do not fit their description"):
        HashEncoder.from_pretrained(tmp_path / "one")
