import numpy as np
import pytest
import torch

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions
from brcd_lightning.deployment.image_index.changes import add_images, build_index, remove_images
from brcd_lightning.deployment.image_index.image_index import ImageIndex
from brcd_lightning.errors import InputError
from small_encoder import make_encoder, write_images

OPTIONS = EncodeOptions(batch_size=4, part_size=8, progress=False)


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path / "photos" / "one", 9)
    write_images(tmp_path / "photos" / "two", 5, seed=1)
    (tmp_path / "photos" / "two" / "bad.png").write_bytes(b"no")
    return tmp_path / "photos"


@pytest.fixture
def folder(tmp_path, photos):
    build_index(tmp_path / "index", make_encoder(), image_names(photos), options=OPTIONS)
    return tmp_path / "index"


def codes_of(index):
    return dict(zip(index.images.paths, map(bytes, index.images.codes), strict=True))


def test_an_index_holds_every_image_that_can_be_read(tmp_path, photos, folder):
    index = ImageIndex.open(folder)
    names = [name for name in image_names(photos).names if name != "two/bad.png"]
    assert index.images.paths == names
    expected = make_encoder().encode([photos / name for name in names])
    assert (index.images.codes == expected.numpy()).all()
    assert index.index.fingerprint == make_encoder().fingerprint
    assert not (folder / "encoding").exists()
    with pytest.raises(InputError, match="is an index already; use brcd add"):
        build_index(folder, make_encoder(), image_names(photos), options=OPTIONS)


def test_no_readable_image_makes_no_index(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no")
    with pytest.raises(InputError, match="none of the 1 images of .* can be read"):
        build_index(tmp_path / "index", make_encoder(), image_names(tmp_path / "photos"), options=OPTIONS)
    with pytest.raises(InputError, match="is not an image index"):
        ImageIndex.open(tmp_path / "index")


def test_images_are_added_by_the_model_of_the_index(photos, folder):
    before = codes_of(ImageIndex.open(folder))
    write_images(photos / "three", 4, seed=2)
    done = add_images(folder, image_names(photos / "three"), OPTIONS)
    assert (done.encoded.images, done.kept, len(done.changed)) == (4, 0, 18)
    index = ImageIndex.open(folder)
    new = [f"three/{number:03d}.png" for number in range(4)]
    assert index.images.paths[14:] == new
    assert codes_of(index) | before == codes_of(index), "the others stay"
    assert (index.images.codes[14:] == make_encoder().encode([photos / name for name in new]).numpy()).all()
    assert index.index.search(torch.from_numpy(index.images.codes[15:16].copy()), 1).distances.item() == 0
    again = add_images(folder, image_names(photos), OPTIONS)
    assert (again.kept, len(again.changed)) == (18, 18), "an unreadable image is tried again"


def test_images_of_elsewhere_are_refused(tmp_path, folder):
    write_images(tmp_path / "others", 2)
    with pytest.raises(InputError, match="images must lie below .*photos, the root of the index, got .*others"):
        add_images(folder, image_names(tmp_path / "others"), OPTIONS)


def test_images_are_removed_by_path_and_by_folder(photos, folder):
    before = codes_of(ImageIndex.open(folder))
    remove_images(folder, ["one/003.png", str(photos / "one" / "004.png")])
    index = ImageIndex.open(folder)
    assert codes_of(index) == {
        path: code for path, code in before.items() if path not in ("one/003.png", "one/004.png")
    }
    remove_images(folder, ["two/"])
    index = ImageIndex.open(folder)
    assert [path.split("/")[0] for path in index.images.paths] == ["one"] * 7
    write_images(photos / "four", 1, seed=4)
    index = add_images(folder, image_names(photos / "four"), OPTIONS).changed
    assert index.images.ids.tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    found = index.index.search(torch.from_numpy(index.images.codes[4:5].copy()), 1)
    assert np.flatnonzero(index.images.ids == found.ids.item()).item() == 4


def test_removing_what_is_not_there_changes_nothing(folder):
    for paths, message in ((["one/003.png", "x.png"], "holds no image x.png"), (["one", "two"], "no image .* be left")):
        with pytest.raises(InputError, match=message):
            remove_images(folder, paths)
    assert len(ImageIndex.open(folder)) == 14


def test_an_interrupted_index_continues(tmp_path, photos, monkeypatch):
    from brcd_lightning.deployment.image_index import changes

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changes, "write_change", stop)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "index", make_encoder(), image_names(photos), options=OPTIONS)
    done = build_index(tmp_path / "index", make_encoder(), image_names(photos), options=OPTIONS)
    assert done.encoded.images == 0, "all parts were there"
    assert len(done.changed) == 14


def test_another_model_does_not_take_over_what_was_begun(tmp_path, photos, monkeypatch):
    from brcd_lightning.deployment.image_index import changes

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changes, "read_readable", stop)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "index", make_encoder(), image_names(photos), options=OPTIONS)
    with pytest.raises(InputError, match=r"holds codes of something else \(encoder differ\)"):
        build_index(tmp_path / "index", make_encoder(seed=1), image_names(photos), options=OPTIONS)
    done = build_index(tmp_path / "index", make_encoder(), image_names(photos), options=OPTIONS)
    assert done.changed.query_encoder().fingerprint == make_encoder().fingerprint
