"""The README's commands compose and its example method works."""

import re
import shlex
import textwrap

import pytest
import torch
from omegaconf import OmegaConf

from brcd_lightning.cli import main
from brcd_lightning.config import check
from brcd_lightning.distillation.base import KDInput
from conftest import ROOT, random_codes
from small_encoder import make_encoder, write_images
from test_configs import composed

TEXT = (ROOT / "README.md").read_text().replace("\\\n", "")
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
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


def test_the_table_of_groups_is_that_of_the_configuration():
    rows = re.findall(r"^\| (`[a-z_@.`, ]+) \| .* \| (`[a-z_`, ]+) \|$", TEXT, flags=re.MULTILINE)
    defaults = {}
    for groups, options in rows:
        named = zip(re.findall(r"`([^`]+)`", groups), re.findall(r"`([^`]+)`", options), strict=True)
        defaults |= dict(named)
    listed = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "train.yaml"), resolve=False)["defaults"]
    entries = [entry for entry in listed if entry != "_self_"]
    expected = {key: value for entry in entries for key, value in entry.items() if "optional" not in key and value}
    assert defaults == expected


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
    values = codes[:3] * 0.5
    scope = run_example(
        "HammingIndex.build(database_codes",
        database_codes=codes,
        image_ids=ids,
        query_codes=codes[:3],
        query_values=values,
    )
    assert scope["found"].ids[:, 0].tolist() == [7, 8, 9]
    assert scope["found"].ids.shape == scope["found"].scores.shape == (3, 100)
    assert scope["index"].kind == "sharded"


def test_the_encoder_example_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = write_images(tmp_path / "photos")
    make_encoder().save_pretrained(tmp_path / "run")
    photos = [tmp_path / "photos" / name for name in names]
    scope = run_example("HashEncoder.from_pretrained", RUN="run", photos=photos, query=photos[3])
    assert scope["found"].ids[0, 0] == 3
    assert scope["found"].distances[0, 0] == 0
    assert (tmp_path / "my-encoder" / "README.md").exists()
