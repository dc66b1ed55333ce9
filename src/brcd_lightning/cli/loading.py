"""Loading of large libraries, whose objects live as long as the process."""

from __future__ import annotations

import gc
import sys
from importlib import import_module

_LARGE = ("torch", "scipy.signal", "sklearn.cluster", "sympy", "matplotlib.figure")
"""They hold two thirds of all objects in a training process. torchvision is excluded: it loads triton, which reports
every object that is never collected as leaked."""
_SELDOM = (50_000, 50, 50)


def load_libraries() -> None:
    """Imports large libraries and excludes their objects from garbage collection.

    None of these objects becomes garbage. Scanning them takes half a second during the import, and most of the time
    that the interpreter needs to exit.
    """
    if "torch" in sys.modules:  # a further job of the same process
        return
    thresholds = gc.get_threshold()
    gc.set_threshold(*_SELDOM)
    for name in _LARGE:
        import_module(name)
    gc.freeze()
    gc.set_threshold(*thresholds)
