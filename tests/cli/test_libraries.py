"""Only a command changes the process: importing any file of the project does not."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import run_command
from test_architecture import FILES, SOURCE, name_of

# Statements at the top of a file that do something, and why each is there.
DOES_SOMETHING = {
    (
        "search/exact",
        "os.register_at_fork",
    ): "threads of the search pool do not survive a fork; nothing else is touched",
}
# Runs in a fresh interpreter: what importing the project changes after its libraries have been imported.
CHANGES = """
import json, logging, os, sys, warnings
import faiss, filelock, hydra, lancedb, lightning, lightning.pytorch.loggers, matplotlib.pyplot, numpy, omegaconf
import optuna, psycopg, rich, safetensors.torch, sklearn.cluster, threadpoolctl, timm, torch, torchmetrics, torchvision
import wandb
import hydra.core.hydra_config, lightning.pytorch.callbacks, lightning.pytorch.strategies, optuna.storages.journal

def state():
    return {
        "environment": dict(os.environ),
        "warnings": [str(one) for one in warnings.filters],
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "precision": torch.get_float32_matmul_precision(),
        "dtype": str(torch.get_default_dtype()),
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads(), faiss.omp_get_max_threads()],
        "levels": {name: logging.getLogger(name).level
                   for name in ("", "lightning", "lightning.pytorch", "lightning.fabric", "optuna", "faiss", "wandb")},
        "handlers": len(logging.getLogger().handlers),
        "path": sys.path,
    }

before = state()
for module in sys.argv[1:]:
    __import__(module)
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""


def effects(tree):
    """The statements of a file that neither define, import nor name anything."""
    for node in tree.body:
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            yield ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ast.unparse(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (ast.unparse(one) for one in targets if not isinstance(one, ast.Name | ast.Tuple))
        elif isinstance(node, ast.If):
            if ast.unparse(node.test) not in ("TYPE_CHECKING", "__name__ == '__main__'"):
                yield from effects(node)
        elif isinstance(node, ast.With | ast.Try | ast.For | ast.While | ast.Delete):
            yield ast.unparse(node).splitlines()[0]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_does_anything_when_it_is_imported(path):
    tree = ast.parse(path.read_text())
    assert [one for one in effects(tree) if (name_of(path), one) not in DOES_SOMETHING] == []


def test_importing_every_file_leaves_the_process_as_its_libraries_made_it(tmp_path):
    modules = [
        "brcd_lightning." + name_of(path).replace("/", ".")
        for path in FILES
        if path.stem not in ("__init__", "__main__")
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, *modules], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_check_sees_what_it_is_for():
    source = (
        "import os\nos.environ['A'] = '1'\nx = 1\nif x:\n    os.putenv('B', '2')\nwarnings.filterwarnings('ignore')"
    )
    assert list(effects(ast.parse(source))) == ["os.environ['A']", "os.putenv", "warnings.filterwarnings"]
    assert (SOURCE / "search" / "exact.py") in FILES
    assert all((Path(SOURCE) / f"{name}.py").exists() for name, _ in DOES_SOMETHING)


def test_the_command_configures_the_libraries(tmp_path, monkeypatch):
    script = (
        "import logging, warnings, torch\nfrom brcd_lightning.cli.libraries import configure_libraries\n"
        "for _ in range(2):\n    configure_libraries()\n    print(len(warnings.filters))\n"
        "print(torch.utils.deterministic.fill_uninitialized_memory, logging.getLogger('lightning.pytorch').level)"
    )
    (tmp_path / "configures.py").write_text(script)
    monkeypatch.syspath_prepend(tmp_path)
    done = run_command(cwd=tmp_path, module="configures")
    first, again, settings = done.stdout.splitlines()
    assert first == again
    assert settings == "False 30"
