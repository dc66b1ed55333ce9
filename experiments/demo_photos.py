"""Photographs for a first search: overlapping tiles of those that scikit-learn and scikit-image ship.

    python experiments/demo_photos.py DIR

Nine tiles of each photograph, as JPEG files: a search for one should find the others of the same photograph. `make
demo-photos` trains on them, indexes them and searches.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

from PIL import Image

PHOTOGRAPHS = {
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
    "skimage.data": (
        *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
        *("gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg"),
        *("rocket.jpg", "page.png"),
    ),
}
SHARE = 0.6
"""Side of a tile, of that of the photograph."""
PLACES = (0.0, 0.5, 1.0)


def main() -> None:
    """Writes the tiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for package, names in PHOTOGRAPHS.items():
        for name in names:
            with Image.open(files(package).joinpath(name).open("rb")) as opened:
                photograph = opened.convert("RGB")
            width, height = (round(SHARE * side) for side in photograph.size)
            for row, y in enumerate(PLACES):
                for column, x in enumerate(PLACES):
                    left, top = round(x * (photograph.width - width)), round(y * (photograph.height - height))
                    tile = photograph.crop((left, top, left + width, top + height))
                    tile.save(folder / f"{Path(name).stem}_{row}{column}.jpg", quality=90)
                    count += 1
    print(f"{count} tiles of {sum(map(len, PHOTOGRAPHS.values()))} photographs are in {folder}")


if __name__ == "__main__":
    main()
