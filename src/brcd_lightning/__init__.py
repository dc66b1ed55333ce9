"""Unsupervised image hashing with knowledge distillation, on Lightning and Hydra.

The public names stand in ``__init__.pyi``, where type checkers and editors read them. Each is imported when it is first
used, so that ``import brcd_lightning`` loads neither torch nor anything else that takes long.
"""

import ast
from importlib import import_module
from pathlib import Path

__version__ = "0.1.0"


def _read_exports() -> dict[str, str]:
    """The module of each public name."""
    stub = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names if node.module}


_EXPORTS = _read_exports()
__all__ = sorted(_EXPORTS)  # noqa: PLE0605 (a list of strings, which ruff does not see)


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
