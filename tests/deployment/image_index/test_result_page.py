import base64
import io
import re

from PIL import Image

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions
from brcd_lightning.deployment.image_index.changes import build_index
from brcd_lightning.deployment.image_index.result_page import write_page
from small_encoder import make_encoder, write_images


def test_a_page_shows_every_hit_and_escapes_names(tmp_path):
    write_images(tmp_path / "photos", 5)
    hostile = "<script>alert(1)</script>".replace("/", "\u2215") + ".png"
    (tmp_path / "photos" / "000.png").rename(tmp_path / "photos" / hostile)
    index = build_index(
        tmp_path / "index", make_encoder(), image_names(tmp_path / "photos"), options=EncodeOptions(progress=False)
    ).changed
    query = str(tmp_path / "photos" / "001.png")
    found = {query: index.search(query, index.query_encoder(), 5, rescore=True)}
    (tmp_path / "photos" / "002.png").unlink()
    write_page(tmp_path / "page.html", index, found, rescored=True)
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "16-bit codes, exact search</h1>" in page
    assert "&lt;script&gt;" in page
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(pictures) == 5, "the query and four hits; one is gone"
    assert page.count('class="gone"') == 1
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (20, 24)
