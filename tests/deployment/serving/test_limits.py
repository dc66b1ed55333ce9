import pytest

from brcd_lightning.deployment.serving.limits import Limits
from brcd_lightning.errors import InputError


@pytest.mark.parametrize("name", ["max_upload_mb", "max_megapixels", "threads", "waiting"])
def test_limits_are_positive(name):
    with pytest.raises(InputError, match=f"{name} must be a positive integer, got 0"):
        Limits(**{name: 0})


def test_images_that_pil_refuses_are_no_limit():
    with pytest.raises(InputError, match="max_megapixels must be an integer of at least 1 and at most 89, got 90"):
        Limits(max_megapixels=90)
    assert (Limits().max_bytes, Limits().max_pixels) == (20_000_000, 50_000_000)
