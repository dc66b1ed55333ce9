"""A hook of MkDocs: the reference pages, made from the code and from ``conf/`` at each build and never committed."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import brcd_lightning
from brcd_lightning.cli.main import COMMANDS
from brcd_lightning.config import CONFIG_DIR

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

API_TITLES = {
    "backbones": "Backbones",
    "codes": "Codes and clusters",
    "deployment": "Encoder",
    "distillation": "Distillation methods and losses",
    "errors": "Errors",
    "hashing": "Hashing models and losses",
    "metrics": "Metrics",
    "search": "Search",
}
_HIDDEN = {argparse.SUPPRESS, None}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    from mkdocs.structure.files import File  # noqa: PLC0415 (tests read the pages without MkDocs)

    pages = {"commands": commands_page(), "configuration": configuration_page()}
    pages |= {f"api/{part}": text for part, text in api_pages().items()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def api_pages() -> dict[str, str]:
    """A page for each part of the package: part -> Markdown with one mkdocstrings block for each public name."""
    parts = defaultdict(list)
    for name in brcd_lightning.__all__:
        module = getattr(brcd_lightning, name).__module__
        parts[module.split(".")[1]].append(f"::: {module}.{name}\n")
    head = "Each name is imported from `brcd_lightning`, and its module is loaded when it is first used.\n"
    return {part: "\n".join([f"# {API_TITLES[part]}\n", head, *blocks]) for part, blocks in sorted(parts.items())}


def commands_page() -> str:
    """All commands with their arguments, from their parsers."""
    lines = [
        "# Commands",
        "",
        "`brcd COMMAND --help` prints the same. Exit codes: [reliability.md](../reliability.md#exit-codes).",
        "",
        "| command | purpose |",
        "|---|---|",
        *(f"| [`brcd {name}`](#brcd-{name}) | {command.help} |" for name, command in COMMANDS.items()),
    ]
    return "\n".join([*lines, *(_command(name) for name in COMMANDS)])


def _command(name: str) -> str:
    head = f"\n## brcd {name} {{ #brcd-{name} }}\n"
    if name == "train":
        return head + (
            "\nTrains a teacher, distils it into a student and tests both. Its arguments are Hydra's: "
            "[all options](configuration.md).\n\n```text\n"
            "brcd train [KEY=VALUE ...] [+experiment=NAME] [+sweep=NAME] [--multirun] [--cfg job] [--help]\n```\n"
        )
    parser = import_module(COMMANDS[name].module).parser()
    parser.formatter_class = partial(argparse.HelpFormatter, width=80)
    usage = parser.format_usage().removeprefix("usage: ").strip()
    rows = [f"| {_shown(each)} | {_cell(each)} |" for each in parser._actions if each.help not in _HIDDEN]
    table = "\n".join(["| argument | meaning |", "|---|---|", *rows])
    return f"{head}\n{parser.description}\n\n```text\n{usage}\n```\n\n{table}\n"


def _shown(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    takes = "" if action.nargs == 0 else f" `{value}`"
    return (names + takes).strip()


def _cell(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default, "prog": "brcd"}
    choices = f" One of {', '.join(f'`{one}`' for one in action.choices)}." if action.choices else ""
    return (re.sub(r"\b(docs/)(\w+\.md)", r"[\2](../\2)", text) + choices).replace("|", "\\|")


def configuration_page() -> str:
    """All options: the main file, then the files of each group, as they are."""
    groups = sorted({path.parent.relative_to(CONFIG_DIR).as_posix() for path in CONFIG_DIR.rglob("*.yaml")} - {"."})
    lines = [
        "# Configuration",
        "",
        "`brcd train KEY=VALUE` sets an option, `brcd train GROUP=NAME` chooses a file of a group "
        "([which group chooses what](../running.md#groups)). `+experiment=NAME`, `+sweep=NAME` and `+rung=NAME` "
        "add a file that sets several. A wrong name or value ends in one line, before any data are loaded.",
        "",
        "## The main file",
        "",
        _yaml("train.yaml"),
        "## Of `brcd latency`",
        "",
        _yaml("latency.yaml"),
    ]
    for group in groups:
        lines += [f"## {group} {{ #{group.replace('/', '-')} }}", ""]
        for path in sorted((CONFIG_DIR / group).glob("*.yaml")):
            lines += [f"### {group}/{path.stem} {{ #{group.replace('/', '-')}-{path.stem} }}", ""]
            lines += [_yaml(path.relative_to(CONFIG_DIR).as_posix())]
    return "\n".join(lines)


def _yaml(name: str) -> str:
    text = (CONFIG_DIR / name).read_text(encoding="utf-8").removeprefix("# @package _global_\n").strip()
    return f"```yaml\n{text or '# as it is'}\n```\n"
