"""The server as its clients see it."""

import io
import re
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions
from brcd_lightning.deployment.image_index.changes import build_index
from brcd_lightning.deployment.serving.answers import Searcher
from brcd_lightning.deployment.serving.app import HEADERS, make_app
from brcd_lightning.deployment.serving.limits import Limits
from brcd_lightning.deployment.serving.pictures import ImageFiles
from small_encoder import make_encoder, write_images

OPTIONS = EncodeOptions(progress=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_images(folder / "photos", 24)
    (folder / "secret.png").write_bytes((folder / "photos" / "000.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def index(place):
    return build_index(place / "index", make_encoder(), image_names(place / "photos"), options=OPTIONS).changed


def client_of(index, limits=None, **options):
    limits = limits or Limits()
    files = ImageFiles(index.root, index.images, limits.max_bytes, limits.max_pixels)
    return TestClient(make_app(Searcher([index]), files, limits, **options), raise_server_exceptions=True)


@pytest.fixture(scope="module")
def client(index):
    with client_of(index) as client:
        yield client


def claiming(width, height):
    """A small PNG whose header claims another size."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def test_an_upload_finds_what_the_index_finds(place, index, client):
    query = place / "photos" / "005.png"
    expected = index.search(query, index.query_encoder(), 5)
    for sent in ({"content": query.read_bytes()}, {"files": {"file": query.open("rb")}}):
        answer = client.post("/search?k=5", **sent)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        (result,) = found["results"]
        assert (result["paradigm"], result["mode"]) == ("SSHP", "hamming")
        assert [(hit["path"], hit["distance"]) for hit in result["hits"]] == [
            (hit.path, hit.distance) for hit in expected.hits
        ]
        assert re.fullmatch("[01]{16}", found["bits"])
        assert min(found["ms"].values()) > 0


def test_both_orders_are_answered_together(place, index, client):
    query = place / "photos" / "005.png"
    answer = client.post("/search?k=4&mode=hamming&mode=rescored", content=query.read_bytes()).json()
    assert [result["mode"] for result in answer["results"]] == ["hamming", "rescored"]
    scores = [hit["score"] for hit in answer["results"][1]["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["results"][1]["ties_left_out"] is None


def test_a_hit_leads_to_its_neighbours_and_pictures(index, client):
    hit = client.get("/similar/7?k=1").json()["results"][0]["hits"][0]
    assert (hit["id"], hit["distance"]) == (7, 0)
    picture, small = client.get(hit["picture"]), client.get(hit["thumbnail"])
    assert picture.content == (index.root / hit["path"]).read_bytes()
    assert (picture.headers["content-type"], small.headers["content-type"]) == ("image/png", "image/jpeg")
    assert max(Image.open(io.BytesIO(small.content)).size) <= 160
    again = client.get(hit["thumbnail"], headers={"If-None-Match": small.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_answer_has_the_headers_that_protect_it(client):
    for address in ("/", "/healthz", "/nothing", "/images/999"):
        headers = client.get(address).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS
        assert "access-control-allow-origin" not in headers


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for address in ("/", "/app.js", "/style.css"):
        assert not re.search(r"https?://(?!www\.w3\.org)", client.get(address).text)
    assert client.get("/openapi.json").json()["paths"].keys() >= {"/search", "/similar/{number}", "/healthz"}
    assert client.get("/healthz").json()["images"] == 24


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (b"", 400, "Send an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "This is not an image of a known format"),
        (b"<!doctype html><script>alert(1)</script>", 415, "This is not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "This is not an image of a known format"),
        (claiming(20_000, 20_000), 413, "more than 50 megapixels"),
        (claiming(9_000, 9_000), 413, "9000 x 9000 pixels; at most 50 megapixels are taken"),
        (claiming(10_000, 2), 413, "too thin to be compared"),
        (claiming(100, 100), 415, "The image cannot be decoded"),
        (b"x" * 20_000_001, 413, "The file is too large; at most 20 MB are taken."),
    ],
    ids=["empty", "svg", "html", "eps", "bomb", "huge", "thin", "cut", "large"],
)
@pytest.mark.parametrize("form", [False, True])
def test_what_is_no_image_is_refused_in_one_sentence(client, content, code, told, form):
    sent = {"files": {"file": ("x.png", content)}} if form else {"content": content}
    answer = client.post("/search", **sent)
    assert answer.status_code == code, answer.text
    assert told in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("/images/24", 404),
        ("/images/-1", 422),
        ("/images/../secret.png", 404),
        ("/images/..%2f..%2fsecret.png", 404),
        ("/images/%2e%2e", 422),
        ("/images/99999999999999999999", 422),
        ("/similar/24", 404),
        ("/similar/1?k=0", 422),
        ("/similar/1?k=101", 422),
        ("/similar/1?mode=best", 422),
        ("/similar/1?max_distance=-1", 422),
        ("/docs", 404),
        ("/search", 405),
    ],
)
def test_only_images_of_the_index_are_served(client, address, code):
    answer = client.get(address)
    assert answer.status_code == code


def test_an_index_of_somebody_else_names_no_files_outside_of_its_root(index):
    bad = index.images._replace(paths=["../secret.png", "/etc/hostname", *index.images.paths[2:]])
    files = ImageFiles(index.root, bad, 10**7, 10**7)
    with TestClient(make_app(Searcher([index]), files)) as client:
        assert [client.get(f"/images/{number}").status_code for number in (0, 1, 2)] == [404, 404, 200]


def test_pages_elsewhere_cannot_call_it_by_another_name(index):
    with client_of(index, allowed_hosts=["localhost"]) as client:
        assert client.get("/healthz", headers={"Host": "localhost:8000"}).status_code == 200
        assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 400


def test_a_busy_server_says_so(index, monkeypatch, place):
    started, gate = threading.Event(), threading.Event()
    searcher = Searcher([index])
    answer = searcher.answer

    def slow(read, wanted):
        started.set()
        gate.wait(20)
        return answer(read, wanted)

    monkeypatch.setattr(searcher, "answer", slow)
    limits = Limits(threads=1, waiting=1)
    files = ImageFiles(index.root, index.images, limits.max_bytes, limits.max_pixels)
    with TestClient(make_app(searcher, files, limits)) as client, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.get, f"/similar/{number}") for number in range(3)]
        refused = next(as_completed(asked)).result()  # one is worked at, one waits
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "busy" in refused.json()["detail"]
        assert started.is_set()
        gate.set()
        assert sorted(each.result().status_code for each in asked) == [200, 200, 503]


@pytest.mark.slow
def test_a_thousand_requests_of_sixteen_clients(place, index, client):
    queries = [(place / "photos" / f"{number:03d}.png").read_bytes() for number in range(24)]
    alone = [client.post("/search?k=3", content=query).json()["results"][0]["hits"] for query in queries]
    with client_of(index, Limits(threads=2, waiting=64)) as served, ThreadPoolExecutor(16) as pool:

        def ask(number):
            garbage = number % 20 == 0
            content = b"garbage" * number if garbage else queries[number % 24]
            answer = served.post("/search?k=3", content=content or b"x")
            if garbage:
                return answer.status_code == 415
            return answer.status_code == 200 and answer.json()["results"][0]["hits"] == alone[number % 24]

        assert all(pool.map(ask, range(1000)))
