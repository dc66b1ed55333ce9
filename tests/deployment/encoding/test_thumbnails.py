import io

from PIL import Image

from brcd_lightning.deployment.encoding.thumbnails import thumbnail
from small_encoder import write_images


def test_thumbnails_are_small(tmp_path):
    write_images(tmp_path, 1, size=(800, 400))
    assert Image.open(io.BytesIO(thumbnail(tmp_path / "000.png"))).size == (160, 80)
    assert thumbnail(tmp_path / "none.png") is None


def test_thumbnails_are_upright_and_on_white(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (800, 400), "red").save(tmp_path / "turned.jpg", exif=exif)
    assert Image.open(io.BytesIO(thumbnail(tmp_path / "turned.jpg"))).size == (80, 160)
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert min(Image.open(io.BytesIO(thumbnail(tmp_path / "clear.png"))).getpixel((5, 5))) > 250
