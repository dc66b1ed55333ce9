import numpy as np
import pytest
import torch

from brcd_lightning.deployment.encoding.encoder import HashEncoder
from brcd_lightning.deployment.encoding.part_encoder import Part, PartEncoder, PartWork
from brcd_lightning.deployment.encoding.parts import OK, part_path, read_part
from small_encoder import make_encoder, write_images


@pytest.fixture
def work(tmp_path):
    write_images(tmp_path / "photos", 9)
    (tmp_path / "photos" / "004.png").write_bytes(b"")
    return PartWork(tmp_path / "codes", tmp_path / "photos", 4, "")


def names_of(work):
    return sorted(path.name for path in work.root.iterdir())


@pytest.mark.parametrize("threads", [1, 3])
def test_a_part_holds_the_codes_of_the_encoder(work, threads):
    encoder, told = make_encoder(), []
    with PartEncoder(encoder, threads) as parts:
        parts.write(work, Part(7, names_of(work)), told.append)
    rows = read_part(part_path(work.folder, 7))
    assert rows.paths == names_of(work)
    assert rows.status == ["the file is empty" if name == "004.png" else OK for name in rows.paths]
    good = [status == OK for status in rows.status]
    expected = encoder.encode([work.root / name for name, fine in zip(rows.paths, good, strict=True) if fine])
    assert np.array_equal(rows.codes[good], expected.numpy())
    assert sorted(told) == [1, 4, 4]


def test_the_number_of_threads_of_torch_comes_back(work):
    encoder, before = make_encoder(), torch.get_num_threads()
    with PartEncoder(encoder, 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_missing_file_is_named_without_its_folder(work):
    encoder = make_encoder()
    with PartEncoder(encoder, 1) as parts:
        (status,) = parts.encode(work, ["none.png"]).status
    assert "No such file" in status
    assert "none.png" in status
    assert str(work.root) not in status


def test_a_runtime_that_fails_writes_nothing(work):
    def fails(pixels):
        raise RuntimeError("no memory")

    fails.name, encoder = "failing", make_encoder()
    failing = HashEncoder(encoder.network, encoder.description, fails)
    with PartEncoder(failing, 2) as parts, pytest.raises(RuntimeError, match="no memory"):
        parts.write(work, Part(0, names_of(work)))
    assert not work.folder.exists()
