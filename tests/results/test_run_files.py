import ast
from pathlib import Path

from brcd_lightning.results import run_files

NAMES = {value for name, value in vars(run_files).items() if name.isupper()}
SOURCE = Path(run_files.__file__).parents[1]


def test_no_file_of_a_run_is_named_elsewhere():
    for path in SOURCE.rglob("*.py"):
        if path == Path(run_files.__file__):
            continue
        # The folder of an encoder is another one; the hub's convention names its file alike.
        names = NAMES - {"checkpoints"} - ({"config.json"} if path.name == "pretrained.py" else set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{path.name} writes {node.value} out"


def test_names_are_distinct():
    assert len(NAMES) == len([name for name in vars(run_files) if name.isupper()])
