import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions, encode_corpus
from brcd_lightning.deployment.encoding.parts import OK, part_path, read_parts
from brcd_lightning.errors import InputError
from conftest import StartedCommand
from small_encoder import make_encoder, write_images

OPTIONS = EncodeOptions(batch_size=4, part_size=10, progress=False)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path / "photos", 33)
    (tmp_path / "photos" / "005.png").write_bytes(b"")
    (tmp_path / "photos" / "021.png").write_bytes(b"no image")
    return image_names(tmp_path / "photos")


def test_codes_are_those_of_the_encoder_and_bad_images_are_listed(tmp_path, photos):
    encoder = make_encoder()
    done = encode_corpus(encoder, photos, tmp_path / "codes", OPTIONS)
    assert (done.images, done.finished) == (33, True)
    assert done.unreadable == {"005.png": "the file is empty", "021.png": "it has no image format that PIL knows"}
    rows = list(read_parts(tmp_path / "codes"))
    paths = [path for part in rows for path in part.paths]
    good = [status == OK for part in rows for status in part.status]
    assert paths == photos.names
    expected = encoder.encode([photos.root / path for path, fine in zip(paths, good, strict=True) if fine])
    assert (np.concatenate([part.codes for part in rows])[good] == expected.numpy()).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_shards_threads_and_interruptions_give_the_same_files(tmp_path, photos, threads):
    encoder = make_encoder()
    encode_corpus(encoder, photos, tmp_path / "whole", OPTIONS)
    for number in (2, 1):
        options = EncodeOptions(batch_size=4, part_size=10, threads=threads, shard=(number, 2), progress=False)
        done = encode_corpus(encoder, photos, tmp_path / "shards", options)
        assert done.finished is (number == 1)
    assert content(tmp_path / "shards") == content(tmp_path / "whole")
    part_path(tmp_path / "shards", 1).unlink()
    assert encode_corpus(encoder, photos, tmp_path / "shards", OPTIONS).images == 10, "only what is missing"
    assert content(tmp_path / "shards") == content(tmp_path / "whole")
    again = encode_corpus(encoder, photos, tmp_path / "shards", OPTIONS)
    assert (again.images, len(again.unreadable)) == (0, 2)


def test_another_model_does_not_continue(tmp_path, photos):
    encode_corpus(make_encoder(), photos, tmp_path / "codes", OPTIONS)
    with pytest.raises(InputError, match="holds codes of something else"):
        encode_corpus(make_encoder(seed=1), photos, tmp_path / "codes", OPTIONS)


def test_reduced_decoding_is_written_down_and_does_not_mix(tmp_path):
    write_images(tmp_path / "photos", 5, (400, 300), suffix=".jpg")
    images, encoder = image_names(tmp_path / "photos"), make_encoder()
    reduced = replace(OPTIONS, reduced_decoding=True)
    encode_corpus(encoder, images, tmp_path / "full", OPTIONS)
    assert encode_corpus(encoder, images, tmp_path / "reduced", reduced).description.decoding == "reduced"
    prepared = encoder.prepare_each([images.root / name for name in images.names], reduced=True)
    assert not torch.equal(prepared[0], encoder.prepare(images.root / images.names[0])), "or this says nothing"
    codes = [next(read_parts(tmp_path / name)).codes for name in ("full", "reduced")]
    assert np.array_equal(codes[1], encoder.encode_pixels(torch.stack(prepared)).codes.numpy())
    assert np.unpackbits(codes[0] ^ codes[1]).mean() < 0.1
    with pytest.raises(InputError, match=r"holds codes of something else \(decoding differ\)"):
        encode_corpus(encoder, images, tmp_path / "full", reduced)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"part_size": -1}, "part_size must be a positive integer"),
        ({"threads": 0}, "threads must be a positive integer or null"),
        ({"shard": (3, 2)}, "a shard must be i/n with 1 <= i <= n, got 3/2"),
        ({"shard": (0, 2)}, "got 0/2"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        EncodeOptions(**options)


@pytest.mark.slow
def test_a_killed_encoding_continues_to_the_same_bytes(tmp_path):
    write_images(tmp_path / "photos", 400, suffix=".jpg")
    make_encoder().save_pretrained(tmp_path / "model")
    command = partial(StartedCommand, "encode", "model", "photos", "--part-size", "20", "--batch-size", "4", "--out")
    command = partial(command, cwd=tmp_path, module="brcd_lightning")
    assert command("whole").wait() == 0
    for parts in (1, 4, 7, 11, 16):
        process = command("killed")
        while len(list((tmp_path / "killed").glob("part-*"))) < parts and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert command("killed").wait() == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
