"""A small student with its teacher, and folders of small images."""

import numpy as np
import torch
from PIL import Image

from brcd_lightning.deployment.encoding.description import EncoderDescription
from brcd_lightning.deployment.encoding.encoder import HashEncoder

TRANSFORM = {"type": "natural_images", "size": 16, "center_crop": True}
TEACHER = "0123456789abcdef"


def make_encoder(role="student", seed=0, bits=16, teacher=TEACHER, **changes):
    """An encoder with random weights; teacher and student of one seed differ."""
    torch.manual_seed(seed + (100 if role == "teacher" else 0))
    parts = {
        "backbone": {"type": "small", "widths": [6] if role == "teacher" else [4], "grid": 2},
        "hashing_model": {"type": "cibhash", "tau": 0.3, "beta": 0.001, "hidden_features": 8, "head": "linear"},
        "transform": TRANSFORM,
    }
    description = EncoderDescription(bits=bits, role=role, teacher=teacher, **{**parts, **changes})
    network = description.build_network()
    with torch.no_grad():  # or all bits of dark images would be those of the bias
        network.hashing_model.head.weight.mul_(20)
    return HashEncoder(network, description)


def write_images(folder, count=12, size=(20, 24), seed=0, suffix=".png"):
    """Writes images of random blocks; returns their names, sorted."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}{suffix}" for number in range(count)]
    for name in names:
        blocks = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(folder / name)
    return names
