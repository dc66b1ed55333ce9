"""Imports point one way, and the house stays in order (docs/architecture.md)."""

import ast
import re
import statistics
from pathlib import Path

import pytest

from brcd_lightning.config import CONFIG_DIR

SOURCE = Path(__file__).parents[1] / "src" / "brcd_lightning"
FILES = sorted(SOURCE.rglob("*.py"))

# From the ground up; a part imports from its own floor and lower ones. The longest name that fits a file is its part.
FLOORS = [
    {"errors"},
    {"options", "memory"},
    {"codes", "storage", "distributed"},
    {"search", "metrics"},
    {"data", "backbones"},
    {"hashing", "distillation"},
    {"data/features"},
    {"results", "deployment"},
    {"deployment/encoding"},
    {"deployment/image_index", "deployment/export"},
    {"deployment/serving", "deployment/databases"},
    {"report", "config"},
    {"training"},
    {"experiment"},
    {"cli"},
    {"train", "latency", "__main__", "__init__"},
]
FLOOR = {part: level for level, parts in enumerate(FLOORS) for part in parts}
# The type of a batch speaks of what a network takes, see `backbones.Images` and `backbones.Rows`.
SAME_FLOOR_ONLY_DOWN = {("hashing", "distillation"), ("distillation", "hashing")}

# Which packages outside the project a part may import at all; what is not named is free.
HEAVY = {
    *(
        "daft",
        "faiss",
        "hydra",
        "jinja2",
        "lancedb",
        "lightning",
        "matplotlib",
        "omegaconf",
        "optuna",
        "psycopg",
        "pydantic",
        "ray",
    ),
    *("sklearn", "wandb"),
}
ALLOWED = {
    "options": {"pydantic"},
    "codes/clusters": {"faiss", "sklearn"},
    "storage/checkpoints": {"lightning"},
    "distributed/processes": {"lightning"},
    "search": {"faiss"},
    "data/digits": {"sklearn"},
    "deployment/databases/lance": {"lancedb"},
    "deployment/databases/pgvector": {"psycopg"},
    "deployment/encoding/daft_engine": {"daft"},
    "deployment/encoding/pretrained": {"jinja2"},
    "deployment/image_index/result_page": {"jinja2"},
    "deployment/serving": {"pydantic"},
    "data/datamodule": {"lightning"},
    "results/gallery": {"matplotlib"},
    "report": {"matplotlib", "jinja2"},
    "report/figures": {"matplotlib", "sklearn"},
    "config": {"hydra", "omegaconf"},
    "training": {"lightning"},
    "training/loggers": {"lightning", "wandb"},
    "training/wandb_media": {"lightning", "wandb", "matplotlib"},
    "experiment": {"lightning", "hydra", "omegaconf"},
    "experiment/sweeps": {"hydra", "omegaconf", "lightning", "optuna"},
    "cli": {"hydra", "omegaconf"},
    "cli/libraries": {"lightning"},
    "cli/latency_measurement": {"faiss", "omegaconf"},
    "cli/preview_data": {"omegaconf", "matplotlib"},
}
# Tests of files that are not in a test file of the same name.
ELSEWHERE = {
    "storage/option_types": "../test_wrong_options",
    "distillation/base": "test_none",
    "experiment/run": "../test_train",
    "experiment/build": "../test_train",
    "experiment/context": "../test_train",
    "experiment/outcome": "../test_train",
    "experiment/plan": "../test_train",
    "experiment/trainers": "../test_train",
    "cli/collect": "../report/test_collect",
    "cli/latency": "test_main",
    **{
        f"cli/{name}": "test_image_commands"
        for name in ("encode", "index", "add", "remove", "search", "dedup", "verify")
    },
    "cli/encoding_arguments": "test_image_commands",
    "cli/index_arguments": "test_database_commands",
    "cli/push": "test_database_commands",
    "cli/train": "test_train_task",
    "cli/hydra_command": "test_main",
}
# Former names of commands, for one release.
FORMER = {"train", "__main__", "latency", "data/check", "data/preview", "report/__main__"}


def name_of(path):
    return path.relative_to(SOURCE).with_suffix("").as_posix()


def longest(name, table):
    """The value of the longest key that is the name or a folder above it."""
    while name not in table and name:
        name = name.rpartition("/")[0]
    return table.get(name)


def imports(path):
    """Imported modules; of packages of the project the module of each name, where it is one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def project_imports(path):
    for module in imports(path):
        if module.startswith("brcd_lightning."):
            yield module.removeprefix("brcd_lightning.").replace(".", "/")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path):
    name = name_of(path)
    level = longest(name, FLOOR)
    assert level is not None, f"{name} has no floor"
    for other in project_imports(path):
        assert longest(other, FLOOR) <= level, f"{name} imports {other}"
        assert (name.split("/")[0], other.split("/")[0]) not in SAME_FLOOR_ONLY_DOWN, f"{name} imports {other}"
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in HEAVY - (longest(name, ALLOWED) or set()), f"{name} imports {module}"


def test_there_is_no_circle_of_files():
    arrows = {name_of(path): set(project_imports(path)) for path in FILES}
    arrows = {name: {other for other in others if other in arrows} for name, others in arrows.items()}
    while arrows:
        ends = {name for name, others in arrows.items() if not others}
        assert ends, f"a circle among {sorted(arrows)}"
        arrows = {name: others - ends for name, others in arrows.items() if name not in ends}


def test_no_method_is_named_outside_its_own_file():
    # A method is what a YAML builds. The baseline's name, none, is a value of other options too.
    configuration = "\n".join(path.read_text() for path in CONFIG_DIR.rglob("*.yaml"))
    methods = set(re.findall(r"_target_: brcd_lightning\.distillation\.(\w+)\.", configuration)) - {"none"}
    assert methods
    for path in FILES:
        if path.parent.name == "distillation" or name_of(path) == "__init__":
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
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            assert len(lines_of_code(function, lines)) <= 40, f"{function.name} is too long"
            assert len(arguments(function)) <= 7 or takes_options(path, function), (
                f"{function.name}: too many arguments"
            )


def lines_of_code(function, lines):
    """Lines of a function but for its docstring, comments and empty lines."""
    doc = function.body[0] if ast.get_docstring(function) else None
    described = set(range(doc.lineno, doc.end_lineno + 1)) if doc else set()
    numbers = set(range(function.lineno, function.end_lineno + 1)) - described
    return [number for number in numbers if re.match(r"\s*[^#\s]", lines[number - 1])]


def arguments(function):
    given = function.args
    named = [
        each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if each
    ]
    return [name for name in named if name not in ("self", "cls")]


def takes_options(path, function):
    """Whether a configuration builds it: its arguments are options of YAML."""
    module = "brcd_lightning." + name_of(path).replace("/", ".")
    configuration = "\n".join(each.read_text() for each in CONFIG_DIR.rglob("*.yaml"))
    built = set(re.findall(rf"_target_: {re.escape(module)}\.(\w+)", configuration))
    constructors = {
        node.name: next((each for each in node.body if getattr(each, "name", "") == "__init__"), None)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }
    return function.name in built or any(
        name in built and each is not None and each.lineno == function.lineno for name, each in constructors.items()
    )


def test_the_house_stays_small():
    rooms = [path for path in SOURCE.iterdir() if path.suffix in (".py", ".pyi") or (path / "__init__.py").exists()]
    rooms = [path for path in rooms if name_of(path) not in FORMER]
    assert len(rooms) <= 20, sorted(path.name for path in rooms)
    assert statistics.median(len(path.read_text().splitlines()) for path in FILES) <= 130


def test_tests_mirror_the_source():
    tests = Path(__file__).parent
    for path in FILES:
        if path.stem != "__init__" and name_of(path) not in FORMER:
            name = ELSEWHERE.get(name_of(path), f"test_{path.stem}")
            assert (tests / path.relative_to(SOURCE).parent / f"{name}.py").exists(), f"{name_of(path)}: no {name}.py"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_docstrings_open_with_a_noun_or_a_verb(path):
    words = "What|How|Where|Whether|Which|Who|When|Why|Does"
    opening = re.findall(rf'^\s*"""((?:{words})\b.*)', path.read_text(), flags=re.MULTILINE)
    assert not opening
