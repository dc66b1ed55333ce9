"""Imports point one way, and the house stays in order (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest

from brcd_lightning.config import CONFIG_DIR

SOURCE = Path(__file__).parents[1] / "src" / "brcd_lightning"
FILES = sorted(SOURCE.rglob("*.py"))

# Which packages outside the project a part may import at all; what is not named is free.
HEAVY = {"lightning", "hydra", "omegaconf", "faiss", "wandb", "sklearn", "matplotlib", "optuna"}
ALLOWED = {
    "codes": set(),
    "errors": set(),
    "files": set(),
    "seeding": set(),
    "search": {"faiss"},
    "metrics": set(),
    "clusters": {"faiss", "sklearn"},
    "backbones": set(),
    "hashing": set(),
    "distillation": set(),
    "data": {"sklearn"},
    "data/datamodule": {"lightning"},
    "checkpoints": {"lightning"},
    "global_batch": set(),
    "strategies": {"lightning"},
    "modules": {"lightning"},
    "callbacks": {"lightning"},
    "gallery": {"matplotlib"},
    "results": set(),
    "fingerprint": set(),
    "loggers": {"lightning", "wandb"},
    "config": {"hydra", "omegaconf"},
    "experiment": {"hydra", "omegaconf", "lightning"},
    "training": {"lightning"},
    "identity": set(),
    "component_names": set(),
    "run": {"hydra", "omegaconf", "lightning"},
    "stages": {"lightning"},
    "resume": {"lightning"},
    "study": {"optuna"},
    "sweep": {"hydra", "omegaconf"},
    "tuning": {"hydra", "omegaconf", "optuna"},
    "launcher": {"hydra", "omegaconf"},
    "slurm": {"hydra", "omegaconf"},
    "report": {"matplotlib"},
    "report/figures": {"matplotlib", "sklearn"},
    "media": {"lightning", "wandb", "matplotlib"},
    "cli": {"omegaconf"},
    "cli/latency_measurement": {"faiss", "omegaconf"},
    "cli/libraries": {"lightning"},
    "cli/preview_data": {"omegaconf", "matplotlib"},
    "cli/train": {"hydra", "omegaconf"},
}
# Entry points outside `cli`: other names of its commands, and nothing else.
ENTRIES = {"train", "__main__", "latency", "data/check", "data/preview", "report/__main__"}
FORMER_NAMES = {("report/collect", "brcd_lightning.cli.main")}
# Lower floors never import upper ones.
FLOORS = [
    {"errors"},
    {"codes", "files", "seeding", "global_batch"},
    {"clusters", "search"},
    {"metrics", "checkpoints"},
    {"backbones", "hashing", "distillation", "data"},
    {"modules", "gallery", "results", "report", "fingerprint", "loggers", "media"},
    {"callbacks", "config", "strategies", "resume", "study"},
    {"job"},
    {"stages"},
    {"run", "sweep", "launcher", "slurm", "tuning"},
    {"cli"},
]


def part_of(module):
    """``brcd_lightning.data.splits`` -> ``data``."""
    return module.split(".")[1]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def name_of(path):
    return path.relative_to(SOURCE).with_suffix("").as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path):
    name = name_of(path)
    floor = {part: level for level, parts in enumerate(FLOORS) for part in parts}
    part = name if name in floor else name.split("/")[0]
    if part == "__init__":
        return
    if name in ENTRIES:
        assert set(imports(path)) == {"brcd_lightning.cli.main"}
        return
    for module in imports(path):
        top = module.split(".")[0]
        if top == "brcd_lightning":
            if (name, module) in FORMER_NAMES or module == "brcd_lightning":
                continue
            other = part_of(module)
            assert floor[other] <= floor[part], f"{name} imports {module}"
            assert {part, other} != {"hashing", "distillation"}, f"{name} imports {module}"
        else:
            allowed = ALLOWED.get(name) or ALLOWED.get(name.rpartition("/")[0], ALLOWED[part])
            assert top not in HEAVY - allowed, f"{name} imports {module}"


def test_no_method_is_named_outside_its_own_file():
    # A method is what a YAML builds. The baseline's name, none, is a value of other options too.
    configuration = "\n".join(path.read_text() for path in CONFIG_DIR.rglob("*.yaml"))
    methods = set(re.findall(r"_target_: brcd_lightning\.distillation\.(\w+)\.", configuration)) - {"none"}
    assert methods
    for path in FILES:
        if path.parent.name == "distillation":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in methods, f"{name_of(path)} names {node.value}"
        assert not [m for m in imports(path) if m.startswith("brcd_lightning.distillation.") and not m.endswith("base")]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_house_rules(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a file says what it is"
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert "weights_only=False" not in path.read_text()
    assert len(path.read_text().splitlines()) <= 300


def test_tests_mirror_the_source():
    tests = Path(__file__).parent
    elsewhere = {
        "job": "test_train",
        "run": "test_train",
        "cli/collect": "../report/test_collect",
        "cli/latency": "test_main",
        "cli/train": "test_train_task",
        "cli/hydra_command": "test_main",
    }
    for path in FILES:
        if path.stem != "__init__" and name_of(path) not in ENTRIES:
            name = elsewhere.get(name_of(path), f"test_{path.stem}")
            assert (tests / path.relative_to(SOURCE).parent / f"{name}.py").exists(), f"{name_of(path)}: no {name}.py"
