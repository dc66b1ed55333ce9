"""``import brcd_lightning``: what a notebook finds, and that it costs nothing."""

import inspect
import subprocess
import sys
import types

import pytest
import torch

import brcd_lightning

HEAVY = ("torch", "lightning", "hydra", "omegaconf", "faiss", "numpy", "sklearn", "matplotlib", "timm")


@pytest.mark.parametrize("name", brcd_lightning.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(brcd_lightning, name)
    assert inspect.getdoc(value)
    assert value.__doc__ is not None or inspect.isclass(value)
    assert value.__module__.startswith("brcd_lightning.")


def test_the_names_a_notebook_needs():
    names = set(brcd_lightning.__all__)
    assert {"brcd_loss", "kl_loss", "mean_average_precision", "HammingIndex", "CIBHash", "HashNetwork"} <= names
    assert {"timm_backbone", "torchvision_backbone", "small_backbone", "pack", "unpack", "sign"} <= names
    assert {"hamming_distance", "kmeans_codes", "bit_masks"} <= names
    assert not [name for name in names if isinstance(getattr(brcd_lightning, name), types.ModuleType)]
    assert names <= set(dir(brcd_lightning))


def test_they_work_from_the_top(generator):
    codes = brcd_lightning.sign(torch.randn(20, 16, generator=generator))
    index = brcd_lightning.HammingIndex.build(codes)
    assert index.search(codes[:3], k=1).distances.tolist() == [[0], [0], [0]]
    assert brcd_lightning.unpack(brcd_lightning.pack(codes), 16).equal(codes)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'brcd_lightning' has no attribute 'nothing'"):
        _ = brcd_lightning.nothing


def test_importing_it_changes_nothing_and_loads_nothing_large():
    script = (
        "import json, importlib, logging, os, sys, warnings\n"
        "def state():\n"
        "    return dict(os.environ), list(warnings.filters), logging.root.level, sys.path[:]\n"
        "before = state()\nimport brcd_lightning\nassert state() == before\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
        "print(len(brcd_lightning.__all__) > 50)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "True"]


def test_importing_it_takes_little_time():
    """Compared with modules of the standard library in the same process, so that a busy machine does not matter."""
    script = (
        "import time\n"
        "start = time.process_time(); import json, importlib, argparse, asyncio, unittest.mock\n"
        "middle = time.process_time(); import brcd_lightning\n"
        "print((time.process_time() - middle) / (middle - start))"
    )
    ratios = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(ratios) < 2


def test_star_imports_bring_the_public_names():
    scope = {}
    exec("from brcd_lightning import *", scope)
    assert set(brcd_lightning.__all__) <= set(scope)
