"""The documents of the project: their pages, the commands and examples in them, and one check for every command."""

import ast
import re
import shlex
import textwrap
import tomllib
from importlib import import_module

from brcd_lightning.cli import main
from brcd_lightning.config import check, compose_config
from conftest import ROOT
from test_configs import composed

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
# Programs and modules of others, whose arguments are theirs.
FOREIGN = {"[", "git", "scontrol", "source"}
FOREIGN_MODULES = {"http.server", "venv"}
# A part of one's own in an example -> one that is there.
MINE = {"kd_method": "cosine", "hashing_model": "cibhash", "dataset": "imagenet100", "logger": "csv"}


def read(page):
    return (ROOT / page).read_text()


def blocks(page, language):
    """Fenced blocks of a page, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", read(page), flags=re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(text) for _, text in found]


def commands(page):
    """Commands of a page, a list of words each."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        words = shlex.split(line.replace("$?", "0"), comments=True)
        while words:
            ends = [place for place, word in enumerate(words) if word in {"&&", "&", "|"}]
            one, words = (words[: ends[0]], words[ends[0] + 1 :]) if ends else (words, [])
            while one and re.fullmatch(r"[A-Z_]+=\S*", one[0]):  # environment
                one = one[1:]
            if one:
                yield one


COMMANDS = [(page, words) for page in PAGES for words in commands(page)]


def check_command(words):
    """Fails for a command that would be refused: an unknown option, configuration, target, file or extra."""
    ours = own_command(words)
    if words == ["brcd", "--help"]:
        return
    if ours is not None:
        check_own(*ours)
    elif words[0] == "make":
        targets = {word for word in words[1:] if "=" not in word}
        assert targets <= TARGETS
    elif words[0].endswith("pip"):
        extras = {name for word in words for found in re.findall(r"\[(.*)\]", word) for name in found.split(",")}
        assert extras <= EXTRAS
    elif words[0] in {"python", "python3"}:
        check_script(words[1:])
    else:
        assert words[0] in FOREIGN, f"{words[0]} is not known; see documents.py"


def own_command(words):
    """Name and arguments of a command of the project, however it is started; None for others and ``brcd --help``."""
    words = words[1:] if words[0] == "srun" else words
    if words[0] == "brcd" and words[1] != "--help":
        return words[1], words[2:]
    for module, name in (("brcd_lightning", None), ("brcd_lightning.train", "train")):
        if module in words and words[words.index(module) - 1] == "-m":
            rest = words[words.index(module) + 1 :]
            return (name, rest) if name else (rest[0], rest[1:])
    return None


def check_own(name, arguments):
    assert name in main.COMMANDS
    if name == "train":
        unknown = {word for word in arguments if word.startswith("-")} - {"-m", "--multirun", "--help", "--cfg"}
        assert not unknown
        check(composed([first_value(word) for word in arguments if "=" in word]))
        return
    parser = import_module(main.COMMANDS[name].module).parser()
    if "--help" in arguments:
        return
    if name not in {"latency", "check-data", "preview-data"}:
        parser.parse_args(arguments)
        return
    given = parser.parse_intermixed_args(arguments)
    compose_config([first_value(word) for word in given.overrides], "latency" if name == "latency" else "train")


def first_value(override):
    """An override with the first value of a sweep or of a search, and parts that are there."""
    key, _, value = override.partition("=")
    if value == "mine":
        return f"{key}={MINE[key]}"
    if key != "hydra.run.dir" and re.match(r"(tag|interval|choice|range)\(", value):
        value = re.search(r"[(,]([\d.]+)", value)[1]
    return key + "=" + re.sub(r"^([^\[,]*),.*", r"\1", value.replace("mine", "cosine"))


def check_script(words):
    if words[:2] == ["-m", "pytest"]:
        paths = [word for word in words[2:] if word.startswith("tests/")]
        assert paths
        assert all((ROOT / path).exists() for path in paths)
    elif words[0] == "-m":
        ours = ROOT / words[1].replace(".", "/")
        assert words[1] in FOREIGN_MODULES or (ours / "__main__.py").is_file()
    else:
        assert (ROOT / words[0]).is_file()


def run_example(page, word, **names):
    """Runs the one Python example of a page that holds `word`; returns what it defined."""
    (code,) = [code for code in blocks(page, "python") if word in code]
    scope = {"__name__": "example", **names}
    exec(compile(code, page, "exec", dont_inherit=True), scope)
    return scope


def imports_of(code):
    """The import statements of an example, as a program."""
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return compile(tree, "imports", "exec", dont_inherit=True)
