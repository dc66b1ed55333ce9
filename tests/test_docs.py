"""The documents name what is there, their commands work, and their examples run."""

import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import types
from importlib import import_module

import pytest
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf

import brcd_lightning
from brcd_lightning.cli import main
from brcd_lightning.distillation.base import KDInput
from brcd_lightning.errors import InputError
from brcd_lightning.hashing.base import HashNetwork
from conftest import ROOT, make_network, random_codes
from data import stand_ins
from documents import COMMANDS, PAGES, blocks, check_command, imports_of, own_command, read, run_example

EXAMPLES = [(page, code) for page in PAGES for code in blocks(page, "python")]
SELF_CONTAINED = [(page, code) for page, code in EXAMPLES if "assert " in code and "def test_" not in code]
SITE_PAGES = [*PAGES, *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("experiments/**/*.md"))]


def reference():
    """The hook of MkDocs that makes the reference."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "hooks" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", SITE_PAGES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    """Files of the project that stand in backticks, but for the examples of one's own part."""
    for path in re.findall(r"`((?:src|tests|conf|docs|experiments|benchmarks)/[\w./-]+\w)`", read(page)):
        if not re.search(r"\b(test_mine|mine|x)\b", path):
            assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize("words", [pytest.param(words, id=f"{page}: {' '.join(words)}") for page, words in COMMANDS])
def test_commands_are_right(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_command(words)


@pytest.mark.parametrize(
    "command",
    [
        "brcd train kd_methood=brcd",
        "brcd train bits=-1",
        "srun python -m brcd_lightning.train +experiment=nothing",
        "brcd index RUN PHOTOS --outt photos.brcd",
        "brcd indexx RUN PHOTOS",
        "brcd latency latency.batch_size=3",
        "make demos",
        "pip install -e '.[nothing]'",
        "python experiments/nothing.py",
        "python -m pytest tests/nothing.py",
        "unknown",
    ],
)
def test_a_wrong_command_would_be_noticed(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, HydraException, InputError)):
        check_command(shlex.split(command))


def test_every_command_is_documented():
    used = {own[0] for _, words in COMMANDS if (own := own_command(words))}
    assert used == set(main.COMMANDS)


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_examples_import_what_is_there(page, code):
    if "distillation.mine" not in code:
        exec(imports_of(code), {})


@pytest.mark.parametrize(("page", "code"), SELF_CONTAINED)
def test_examples_with_assertions_hold(page, code):
    exec(compile(code, page, "exec", dont_inherit=True), {"__name__": "example"})


@pytest.mark.parametrize("page", ["README.md", "docs/howto/method.md"])
def test_the_example_method_works(generator, page):
    scope = run_example(page, "class Cosine")
    student = random_codes(4, 8, generator).float().requires_grad_()
    output = scope["Cosine"](weight=2.0)(KDInput(student, random_codes(4, 8, generator).float(), torch.arange(4)))
    output.terms["cosine"].backward()
    assert student.grad.abs().sum() > 0


def test_the_method_of_the_tutorial_works_and_passes_its_test(generator, monkeypatch):
    page = "docs/tutorials/add_method.md"
    mine = types.SimpleNamespace(**run_example(page, "class Mine"))
    monkeypatch.setitem(sys.modules, "brcd_lightning.distillation.mine", mine)
    codes = random_codes(4, 8, generator).float()
    output = mine.Mine(weight=2.0)(KDInput(codes, codes, torch.arange(4)))
    assert output.terms["difference"] == 0
    assert output.diagnostics["equal_bits"] == 1
    tests = {name: test for name, test in run_example(page, "def test_").items() if name.startswith("test_")}
    assert len(tests) == 2
    for test in tests.values():
        test()


def test_the_example_hashing_model_works(generator):
    model = run_example("docs/howto/hashing_model.md", "class Mine")["Mine"]
    network = make_network(model=model)
    assert isinstance(network, HashNetwork)
    (output,) = network([torch.randn(4, 3, 16, 16, generator=generator)])
    network.hashing_model.objective([output])["similarity"].backward()
    assert output.code.abs().eq(1).all()
    assert network.hashing_model.head.weight.grad.abs().sum() > 0


def test_the_example_data_set_works(tmp_path):
    for number, (part, name) in enumerate(itertools.product(("train", "test"), ("ant", "bee"))):
        for image in range(4):
            stand_ins.write_image(tmp_path / part / name / f"{image}.jpg", 10 * number + image)
    mine = run_example("docs/howto/dataset.md", "def mine")["mine"]
    splits = mine(root=str(tmp_path), train_per_class=1, val_query_per_class=1)
    assert [len(part) for part in (splits.train, splits.val_query, splits.query, splits.database)] == [2, 2, 8, 8]


def test_the_example_figure_is_declared():
    declared = run_example("docs/howto/figure.md", "@figure")["sizes"]
    assert declared.caption == "Bytes of a database against mAP"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_yaml_examples_name_what_is_there(page):
    for text in blocks(page, "yaml"):
        for target in re.findall(r"^\s*_target_: (brcd_lightning\S+)", text, flags=re.MULTILINE):
            module, _, name = target.rpartition(".")
            assert module.endswith(".mine") or hasattr(import_module(module), name), target


def test_the_table_of_groups_is_that_of_the_configuration():
    text = read("docs/running.md")
    rows = re.findall(r"^\| (`[a-z_@.`, ]+) \| .* \| (`[a-z_`, ]+) \|$", text, flags=re.MULTILINE)
    defaults = {}
    for groups, options in rows:
        defaults |= dict(zip(re.findall(r"`([^`]+)`", groups), re.findall(r"`([^`]+)`", options), strict=True))
    listed = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "train.yaml"), resolve=False)["defaults"]
    entries = [entry for entry in listed if entry != "_self_"]
    expected = {key: value for entry in entries for key, value in entry.items() if "optional" not in key and value}
    assert defaults == expected


def test_the_drills_are_tests():
    text = read("docs/reliability.md")
    for name in re.findall(r"`((?:\w+/)*test_\w+)`", text):
        found = (ROOT / "tests" / f"{name}.py").exists()
        assert found or any(f"def {name}(" in path.read_text() for path in (ROOT / "tests").rglob("*.py")), name


def test_the_reference_has_every_public_name_once():
    pages = reference().api_pages()
    named = re.findall(r"^::: \S+\.(\w+)$", "\n".join(pages.values()), flags=re.MULTILINE)
    assert sorted(named) == brcd_lightning.__all__
    site = (ROOT / "mkdocs.yml").read_text()
    assert all(f"reference/api/{part}.md" in site for part in pages)


def test_the_reference_has_every_command_and_every_option():
    commands, configuration = reference().commands_page(), reference().configuration_page()
    for name, command in main.COMMANDS.items():
        assert f"## brcd {name} " in commands
        assert command.help in commands
    assert "`--reduced-decoding`" in commands
    for path in (ROOT / "conf").glob("*/*.yaml"):
        assert f"### {path.parent.name}/{path.stem} " in configuration
    assert "view_store:" in configuration


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {path: path.read_text() for path in (tmp_path / "site").rglob("*.html")}
    loaded = r'<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"'
    assert not [found for text in pages.values() for found in re.findall(loaded, text)]
    headings = "\n".join(text for path, text in pages.items() if path.parent.name == "api")
    for name in brcd_lightning.__all__:
        assert re.search(rf'<h2 id="[\w.]*\.{name}"', headings), name
