import numpy as np
import pytest
import torch

from brcd_lightning.deployment.databases.database import Nearest, TableDescription
from brcd_lightning.deployment.databases.database_images import DatabaseImages
from brcd_lightning.deployment.image_index.verification import verify
from brcd_lightning.errors import InputError
from brcd_lightning.search import HammingIndex
from code_folders import clustered
from small_encoder import TEACHER, make_encoder, write_images

BITS, COUNT = 16, 300


class InMemory:
    """A `CodeDatabase` that gives at most `limit` rows, as an approximate one may."""

    def __init__(self, codes, limit=None, role="student", encoder="e", teacher=TEACHER):
        self.place = "table x of memory"
        self.description = TableDescription(BITS, role, encoder, teacher, "/photos", "flat", len(codes))
        self.stored, self.limit, self.closed = codes, limit, False
        self.index = HammingIndex.build(torch.from_numpy(codes), bits=BITS, kind="flat")

    def nearest(self, code, k, *, with_codes=False):
        found = self.index.search(torch.from_numpy(code)[None], k)
        ids, distances = (each[0, : self.limit].numpy() for each in (found.ids, found.distances))
        return Nearest(ids, distances, [f"{each}.png" for each in ids], self.stored[ids] if with_codes else None)

    def codes(self):
        yield from np.array_split(self.stored, 3)

    def close(self):
        self.closed = True


@pytest.fixture
def codes():
    return clustered(COUNT, BITS)


def test_hits_are_those_of_the_hamming_index(codes):
    images, query = DatabaseImages(InMemory(codes)), torch.from_numpy(codes[7:8])
    values = torch.randn(1, BITS, generator=torch.Generator().manual_seed(0))
    exact = HammingIndex.build(torch.from_numpy(codes), bits=BITS, kind="flat")
    for rescore in (None, values):
        found = exact.search(query, 12) if rescore is None else exact.search(query, 12, rescore=rescore)
        hits = images.nearest(query, 12, rescore=rescore)
        assert [hit.id for hit in hits] == found.ids[0].tolist()
        assert [hit.distance for hit in hits] == found.distances[0].tolist()
        assert [hit.score for hit in hits] == ([None] * 12 if rescore is None else found.scores[0].tolist())
        assert all(hit.path == f"{hit.id}.png" for hit in hits)
    assert max(hit.distance for hit in images.nearest(query, COUNT, max_distance=3)) == 3


def test_rows_that_do_not_come_are_empty_slots(codes):
    images, query = DatabaseImages(InMemory(codes, limit=4)), torch.from_numpy(codes[:1])
    assert images.ranked(query, 10).empty_slots == 6
    assert images.ranked(query, 10, torch.randn(1, BITS)).empty_slots == 6
    assert images.ranked(query, 4).empty_slots == 0
    found = images.search_codes(query, 10)
    assert found.empty_slots == 6
    assert found.distances[0, 4:].tolist() == [BITS + 1] * 6
    assert DatabaseImages(InMemory(codes)).ranked(query, 10 * COUNT).empty_slots == 0, "more than there are"


def test_verification_counts_them_as_misses(codes):
    assert verify(DatabaseImages(InMemory(codes)), queries=20).recall == 1
    poor = verify(DatabaseImages(InMemory(codes, limit=4)), queries=20)
    assert (poor.recall, poor.empty_slots) == (0.4, 120)


def test_changed_tables_are_named(codes):
    database = InMemory(codes)
    database.stored = codes[:-1]
    with pytest.raises(InputError, match="holds 299 rows, 300 were pushed; push the codes again"):
        verify(DatabaseImages(database))


def test_a_database_needs_a_model_that_fits(codes, tmp_path):
    student, teacher = make_encoder(), make_encoder("teacher")
    for name, encoder in (
        ("own", student),
        ("sibling", make_encoder(seed=1)),
        ("foreign", make_encoder(seed=2, teacher="x")),
    ):
        encoder.save_pretrained(tmp_path / name)
    sshp = DatabaseImages(InMemory(codes, encoder=student.fingerprint))
    ashp = DatabaseImages(InMemory(codes, role="teacher", encoder=teacher.fingerprint))
    with pytest.raises(InputError, match="table x of memory holds codes and no model; give .* by --model"):
        sshp.query_encoder(None)
    for images, name in ((sshp, "own"), (ashp, "own"), (ashp, "sibling")):
        assert images.query_encoder(tmp_path / name).role == "student"
    for images, name in ((sshp, "sibling"), (sshp, "foreign"), (ashp, "foreign")):
        with pytest.raises(InputError, match=r"table x of memory holds codes of \w+ \w+, and student \w+ makes other"):
            images.query_encoder(tmp_path / name)


def test_an_image_is_searched_as_in_an_index(codes, tmp_path):
    (name,) = write_images(tmp_path, 1)
    encoder = make_encoder()
    with DatabaseImages(InMemory(codes, limit=4)) as images:
        found = images.search(tmp_path / name, encoder, 5, rescore=True)
    assert images.database.closed
    assert len(found.hits) == 4
    assert found.empty_slots == 1
    assert min(found.prepare_ms, found.encode_ms, found.search_ms) > 0
    assert (len(images), images.bits, images.kind, str(images.root)) == (COUNT, BITS, "flat", "/photos")
