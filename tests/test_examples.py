"""The examples in docstrings run."""

import doctest
import importlib

import pytest

import brcd_lightning
from test_architecture import FILES, FORMER, SOURCE, name_of

WITH_EXAMPLES = [path for path in FILES if ">>> " in path.read_text()]
# What a notebook begins with; each shows how it is called.
FIRST = [
    *(
        "HammingIndex",
        "HashEncoder",
        "HashNetwork",
        "KDMethod",
        "nearest_codes",
        "pack",
        "unpack",
        "sign",
        "hamming_distance",
    ),
    *(
        "mean_average_precision",
        "average_precision",
        "precision_at_k",
        "recall_at_k",
        "ranked_lists",
        "RetrievalMetric",
    ),
    *(
        "kmeans_codes",
        "nearest_centroid",
        "bit_masks",
        "bit_expectations",
        "brcd_loss",
        "kl_loss",
        "cosine_loss",
        "nt_xent",
    ),
    "small_backbone",
]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_examples_of_docstrings_run(path):
    assert name_of(path) not in FORMER
    name = ".".join(["brcd_lightning", *path.relative_to(SOURCE).with_suffix("").parts])
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("name", FIRST)
def test_what_people_call_first_has_an_example(name):
    assert ">>> " in getattr(brcd_lightning, name).__doc__


def test_most_public_functions_have_an_example():
    values = {name: getattr(brcd_lightning, name) for name in brcd_lightning.__all__}
    functions = [name for name, value in values.items() if not isinstance(value, type)]
    without = [name for name in functions if ">>> " not in values[name].__doc__]
    assert len(without) <= 5, without
