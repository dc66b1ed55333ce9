"""The README's commands compose and its example method works."""

import re
import shlex
import textwrap

import pytest
import torch

from brcd_lightning.cli import main
from brcd_lightning.config import check
from brcd_lightning.distillation.base import KDInput
from conftest import ROOT, random_codes
from test_configs import composed

TEXT = (ROOT / "README.md").read_text().replace("\\\n", "")
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
OPEN_GROUPS = ("dataset", "kd_method", "hashing_model")
COMMANDS = re.findall(r"^python -m brcd_lightning\.train (.*)$", TEXT, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_compose(command):
    arguments = [a for a in shlex.split(command, comments=True) if "=" in a]
    check(composed([re.sub(r"=([^\[,]*),.*", r"=\1", argument) for argument in arguments]))  # first job of a sweep


def test_there_are_commands():
    assert len(COMMANDS) >= 7


def test_documented_commands_exist():
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    used = {name for text in texts for name in re.findall(r"^brcd ([a-z-]+)", text, flags=re.MULTILINE)}
    assert {"report", "collect", "latency", "check-data", "preview-data"} <= used <= set(main.COMMANDS)


def test_every_option_is_listed_and_every_listed_option_exists():
    rows = re.findall(r"^\| (`[a-z_@.`, ]+) \| (.*) \|$", TEXT, flags=re.MULTILINE)
    listed = {}
    for groups, options in rows:
        group = groups.strip("`").split("@")[0].split("`")[0]
        if (ROOT / "conf" / group).is_dir():
            listed[group] = set(re.findall(r"`([a-z0-9_]+)`", options))
    for group, options in listed.items():
        offered = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
        # A method, model or data set of one's own works, and passes the tests, without a line here.
        assert options <= offered if group in OPEN_GROUPS else options == offered, group
    assert len(listed) == 10


def run_example(word, text=TEXT, **names):
    """Runs the one Python example that holds `word`; returns what it defined."""
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if word in code]
    scope = {"__name__": "readme", **names}
    exec(compile(textwrap.dedent(code), "README.md", "exec", dont_inherit=True), scope)
    return scope


@pytest.mark.parametrize("text", [TEXT, EXTENDING], ids=["readme", "extending"])
def test_the_example_method_works(generator, text):
    scope = run_example("class Cosine", text)
    student = random_codes(4, 8, generator).float().requires_grad_()
    output = scope["Cosine"](weight=2.0)(KDInput(student, random_codes(4, 8, generator).float(), torch.arange(4)))
    output.terms["cosine"].backward()
    assert student.grad.abs().sum() > 0


def test_the_example_search_works(generator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes, ids = random_codes(500, 64, generator), torch.arange(500) + 7
    scope = run_example("HammingIndex", database_codes=codes, image_ids=ids, query_codes=codes[:3])
    assert scope["found"].ids[:, 0].tolist() == [7, 8, 9]
    assert scope["found"].ids.shape == (3, 100)
    assert scope["index"].kind == "sharded"
