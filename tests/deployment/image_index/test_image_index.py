import pytest

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions
from brcd_lightning.deployment.image_index.changes import build_index
from brcd_lightning.deployment.image_index.image_index import ImageIndex
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from small_encoder import make_encoder, write_images

OPTIONS = EncodeOptions(progress=False)


@pytest.fixture
def photos(tmp_path):
    write_images(tmp_path / "photos", 30)
    return image_names(tmp_path / "photos")


@pytest.fixture
def index(tmp_path, photos):
    return build_index(tmp_path / "index", make_encoder(), photos, options=OPTIONS).changed


def test_hits_are_those_of_the_hamming_index(photos, index):
    encoder = index.query_encoder()
    query = photos.root / "007.png"
    found = ImageIndex.open(index.folder).search(query, encoder, 5)
    codes = encoder.encode([photos.root / name for name in photos.names])
    truth = HammingIndex.build(codes, kind="flat").search(codes[7:8], 5)
    assert [(hit.path, hit.distance, hit.score) for hit in found.hits] == [
        (photos.names[number], distance, None)
        for number, distance in zip(truth.ids[0].tolist(), truth.distances[0].tolist(), strict=True)
    ]
    assert found.hits[0].distance == 0
    assert min(found.prepare_ms, found.encode_ms, found.search_ms) > 0


def test_rescored_hits_are_in_the_order_of_scores(photos, index):
    encoder = index.query_encoder()
    found = index.search(photos.root / "007.png", encoder, 5, rescore=True)
    codes, values = encoder.encode_soft([photos.root / name for name in photos.names])
    expected = HammingIndex.build(codes, kind="flat").search(codes[7:8], 5, rescore=values[7:8])
    assert [hit.path for hit in found.hits] == [photos.names[number] for number in expected.ids[0].tolist()]
    # The network saw one image instead of thirty.
    assert [hit.score for hit in found.hits] == pytest.approx(expected.scores[0].tolist(), rel=1e-5)


def test_what_is_too_far_is_left_out(photos, index):
    encoder = index.query_encoder()
    everything = index.search(photos.root / "007.png", encoder, 100).hits
    assert len(everything) == 30
    near = index.search(photos.root / "007.png", encoder, 100, max_distance=5).hits
    assert near == [hit for hit in everything if hit.distance <= 5]
    with pytest.raises(InputError, match="max_distance must be an integer of at least 0"):
        index.search(photos.root / "007.png", encoder, max_distance=-1)
    with pytest.raises(InputError, match="k must be a positive integer"):
        index.search(photos.root / "007.png", encoder, 0)


def test_only_models_of_the_same_space_may_query(tmp_path, photos, index):
    make_encoder(seed=1, teacher="another").save_pretrained(tmp_path / "foreign")
    with pytest.raises(InputError, match=r"holds codes of student \w+, and student \w+ makes other ones"):
        index.query_encoder(tmp_path / "foreign")
    make_encoder().save_pretrained(tmp_path / "same")
    assert index.query_encoder(tmp_path / "same").fingerprint == index.manifest.encoder
    sibling = make_encoder(seed=1)
    sibling.save_pretrained(tmp_path / "sibling")
    with pytest.raises(InputError, match="makes other ones"):
        index.query_encoder(tmp_path / "sibling")


def test_students_query_the_codes_of_their_teacher(tmp_path, photos):
    student, teacher = make_encoder(), make_encoder("teacher")
    index = build_index(tmp_path / "ashp", student, photos, teacher=teacher, options=OPTIONS).changed
    assert (index.images.codes == teacher.encode([photos.root / name for name in photos.names]).numpy()).all()
    assert index.query_encoder().fingerprint == student.fingerprint
    assert index.database_encoder().fingerprint == teacher.fingerprint
    for name, encoder in (("sibling", make_encoder(seed=1)), ("foreign", make_encoder(teacher="another"))):
        encoder.save_pretrained(tmp_path / name)
    assert index.query_encoder(tmp_path / "sibling").role == "student", "another student of this teacher"
    with pytest.raises(InputError, match=r"holds codes of teacher \w+, and student"):
        index.query_encoder(tmp_path / "foreign")


def test_a_damaged_index_is_named(index):
    (index.folder / "codes-0.safetensors").write_bytes(b"x" * 5000)
    with pytest.raises(InputError, match="codes-0.safetensors"):
        ImageIndex.open(index.folder)
