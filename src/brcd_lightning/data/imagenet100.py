"""ImageNet100 with HashNet's protocol: 100 fixed classes, validation images as queries, 130 training images each."""

from __future__ import annotations

from brcd_lightning.data.image_folder import image_folder
from brcd_lightning.data.sources import require_folder
from brcd_lightning.data.splits import Splits
from brcd_lightning.errors import InputError
from brcd_lightning.options import PositiveInt, Seed, Text, checked

_WNIDS = """
    n01514668 n01537544 n01560419 n01629819 n01632458 n01664065 n01685808 n01687978 n01698640 n01729322 n01774750
    n01797886 n01819313 n01828970 n01944390 n01986214 n02017213 n02018207 n02077923 n02088466 n02093256 n02094114
    n02096177 n02096294 n02097209 n02098105 n02102177 n02105162 n02106550 n02111129 n02111277 n02113023 n02128385
    n02256656 n02281787 n02346627 n02391049 n02408429 n02415577 n02454379 n02488291 n02526121 n02655020 n02834397
    n02840245 n02841315 n02865351 n02871525 n02895154 n02939185 n02948072 n02965783 n02992211 n03018349 n03045698
    n03047690 n03196217 n03223299 n03272562 n03291819 n03345487 n03445924 n03483316 n03584829 n03680355 n03690938
    n03733131 n03743016 n03803284 n03814639 n03838899 n03857828 n03891332 n03895866 n03899768 n03902125 n03944341
    n04026417 n04153751 n04201297 n04238763 n04254120 n04344873 n04350905 n04366367 n04404412 n04417672 n04435653
    n04486054 n04548362 n04560804 n04579432 n04596742 n07583066 n07584110 n07753113 n07754684 n07836838 n12057211
    n13044778
"""
CLASSES = _WNIDS.split()
"""WordNet ids, ascending; the label is the index in this list."""


@checked("dataset")
def imagenet100(
    root: Text | None,
    train_per_class: PositiveInt = 130,
    val_query_per_class: PositiveInt = 10,
    skip_corrupt: bool = False,
    seed: Seed = 0,
) -> Splits:
    """Builds ImageNet100 from a standard ImageNet tree, which may hold the other 900 classes as well.

    Args:
        root: folder of ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``.
        train_per_class: see `PerClass`.
        val_query_per_class: see `PerClass`.
        skip_corrupt: see `image_folder`.
        seed: of the draws.

    Raises:
        InputError: naming missing class folders.
    """
    folder = require_folder(root, "train/<wnid>/ and val/<wnid>/ of ImageNet")
    for part in ("train", "val"):
        missing = [name for name in CLASSES if not (folder / part / name).is_dir()]
        if missing:
            loose = "; its images are not in class folders" if any((folder / part).glob("*.JPEG")) else ""
            raise InputError(
                f"{folder / part} lacks {len(missing)} of ImageNet100's 100 class folders, {missing[0]} first{loose}."
            )
    return image_folder(
        str(folder),
        train_per_class=train_per_class,
        val_query_per_class=val_query_per_class,
        skip_corrupt=skip_corrupt,
        seed=seed,
        query_folder="val",
        classes=CLASSES,
    )
