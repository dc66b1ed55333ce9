from PIL import Image

from brcd_lightning.cli.preview_data import save_preview
from brcd_lightning.data.transforms import digit_images, natural_images
from conftest import run_command


def test_a_sheet_of_anchors_and_views(tmp_path, splits):
    for name, transforms in (("digits", digit_images(16)), ("photographs", natural_images(24))):
        path = tmp_path / "new" / f"{name}.png"
        save_preview(path, splits, transforms)
        with Image.open(path) as image:
            assert image.width > 900
            assert image.height > 900


def test_the_command_says_where_the_picture_is(tmp_path):
    done = run_command("preview-data", "dataset=fake", cwd=tmp_path, module="brcd_lightning")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "preview_fake.png").is_file()
    assert "preview_fake.png" in done.stdout
