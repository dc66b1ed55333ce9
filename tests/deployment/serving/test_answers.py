import numpy as np
import pytest

from brcd_lightning.data.image_names import image_names
from brcd_lightning.data.image_scan import read_image
from brcd_lightning.deployment.encoding.corpus import EncodeOptions
from brcd_lightning.deployment.image_index.changes import build_index, remove_images
from brcd_lightning.deployment.serving.answers import Mode, Searcher, Wanted, images_at_distance
from brcd_lightning.errors import InputError
from small_encoder import make_encoder, write_images

OPTIONS = EncodeOptions(progress=False)


@pytest.fixture
def indexes(tmp_path):
    write_images(tmp_path / "photos", 20)
    names = image_names(tmp_path / "photos")
    student, teacher = make_encoder(), make_encoder("teacher")
    sshp = build_index(tmp_path / "sshp", student, names, options=OPTIONS).changed
    return sshp, build_index(tmp_path / "ashp", student, names, teacher=teacher, options=OPTIONS).changed


def test_both_paradigms_stand_side_by_side(indexes):
    searcher = Searcher(indexes)
    assert searcher.paradigms == ["SSHP", "ASHP"]
    pixels = read_image(indexes[0].root / "004.png")
    answer = searcher.answer(lambda: pixels, Wanted(k=3, mode=[Mode.HAMMING, Mode.RESCORED, Mode.HAMMING]))
    found = [(result.paradigm, result.mode.value) for result in answer.results]
    assert found == [("SSHP", "hamming"), ("SSHP", "rescored"), ("ASHP", "hamming"), ("ASHP", "rescored")]
    for index, result in zip(indexes, answer.results[::2], strict=True):
        expected = index.search(pixels, searcher.encoder, 3)
        assert [(hit.path, hit.distance) for hit in result.hits] == [(hit.path, hit.distance) for hit in expected.hits]


@pytest.mark.parametrize(("kind", "exact"), [("flat", True), ("ivf", False)])
def test_answers_say_whether_they_are_exact(tmp_path, kind, exact):
    write_images(tmp_path / "photos", 20)
    names = image_names(tmp_path / "photos")
    index = build_index(tmp_path / "index", make_encoder(), names, kind=kind, options=OPTIONS).changed
    assert index.exact == exact
    pixels = read_image(index.root / "004.png")
    assert [result.exact for result in Searcher([index]).answer(lambda: pixels, Wanted()).results] == [exact]


def test_ties_are_counted(indexes):
    index, _ = indexes
    searcher = Searcher([index])
    pixels = read_image(index.root / "004.png")
    codes = searcher.encoder.encode(pixels)
    distances = np.unpackbits(index.images.codes ^ codes.numpy(), axis=1).sum(axis=1)
    for k in (1, 5, 20):
        (result,) = searcher.answer(lambda: pixels, Wanted(k=k)).results
        for hit in result.hits:
            assert hit.ties == (distances == hit.distance).sum() - 1
        last = result.hits[-1].distance
        assert result.ties_left_out == (distances <= last).sum() - k
    assert images_at_distance(index, codes, []).tolist() == [(distances == 0).sum()]


def test_nothing_near_enough_is_an_empty_answer(indexes):
    searcher = Searcher([indexes[1]])
    pixels = read_image(indexes[0].root / "004.png")
    farthest = min(hit.distance for hit in searcher.answer(lambda: pixels, Wanted(k=20)).results[0].hits)
    if farthest:
        (result,) = searcher.answer(lambda: pixels, Wanted(max_distance=farthest - 1)).results
        assert (result.hits, result.ties_left_out) == ([], 0)


def test_indexes_of_other_images_or_models_are_refused(indexes, tmp_path):
    sshp, ashp = indexes
    with pytest.raises(InputError, match="holds other images than"):
        Searcher([sshp, remove_images(ashp.folder, ["003.png"])])
    foreign = build_index(
        tmp_path / "foreign", make_encoder(seed=1, teacher="x"), image_names(sshp.root), options=OPTIONS
    ).changed
    with pytest.raises(InputError, match="makes other ones"):
        Searcher([sshp, foreign])
