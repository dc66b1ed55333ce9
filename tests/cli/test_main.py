"""``brcd``: its commands, their help, and their former names."""

import time
import tomllib
from importlib import import_module

import pytest

from brcd_lightning.cli import main
from conftest import ROOT, TINY, run_command

FORMER = {
    "brcd_lightning.latency": "latency",
    "brcd_lightning.data.check": "check-data",
    "brcd_lightning.data.preview": "preview-data",
    "brcd_lightning.report": "report",
    "brcd_lightning.report.collect": "collect",
}


def brcd(*arguments, cwd):
    return run_command(*arguments, cwd=cwd, module="brcd_lightning")


def test_help_lists_every_command_on_one_screen(capsys):
    with pytest.raises(SystemExit) as ended:
        main.run(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 26
    for name, command in main.COMMANDS.items():
        assert f"  {name:14}{command.help}" in lines


def test_an_unknown_command_is_one_line_with_the_closest(capsys):
    assert main.run(["tran", "bits=8"]) == 2
    text = capsys.readouterr().err
    assert text == "error: there is no command 'tran'. Did you mean 'train'? brcd --help lists all commands.\n"


def test_without_a_command_the_help_is_shown(capsys):
    with pytest.raises(SystemExit) as ended:
        main.run([])
    assert ended.value.code == 2
    assert "preview-data" in capsys.readouterr().err


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_help_of_every_command_is_fast(tmp_path, name):
    seconds = []
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        done = brcd(name, "--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - started)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""
    assert min(seconds) < 2.5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(set(main.COMMANDS) - {"train"}))  # Hydra parses those of brcd train
def test_every_command_shows_its_parser(name):
    """The command reference and the tests of documents read it."""
    parser = import_module(main.COMMANDS[name].module).parser()
    assert parser.prog == f"brcd {name}"
    assert parser.description
    assert all(action.help for action in parser._actions)


@pytest.mark.parametrize("name", ["latency", "check-data", "preview-data"])
def test_all_options_are_shown_on_request(tmp_path, capsys, name):
    assert main.run([name, "bits=48", "--options", "dataset=fake", f"output_dir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "bits: 48" in text
    assert "_target_: brcd_lightning.data.fake.fake" in text
    assert ("latency:" in text) == (name == "latency")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("module", "command"), FORMER.items())
def test_former_names_name_the_new_one_and_work(tmp_path, module, command):
    done = run_command("--help", cwd=tmp_path, module=module)
    assert done.returncode == 0
    assert done.stderr == f"python -m {module} is deprecated and will be removed; use: brcd {command}\n"
    assert done.stdout.startswith(f"usage: brcd {command} ")


def test_a_former_name_passes_its_arguments_and_exit_code_on(tmp_path):
    done = run_command("dataset=mscocoo", cwd=tmp_path, module="brcd_lightning.data.check")
    assert done.returncode == 2
    assert "dataset has no option 'mscocoo'. Did you mean 'mscoco'?" in done.stderr


def test_the_console_scripts():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"brcd": "brcd_lightning.cli.main:main", "brcd-train": "brcd_lightning.train:main"}


def test_training_by_this_command_is_training(tmp_path):
    done = brcd("train", *TINY, "dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Results go to" in done.stdout


@pytest.mark.slow
def test_two_processes_are_started_by_this_command(tmp_path):
    ddp = ["trainer=debug", "trainer.devices=2", "+trainer.strategy=ddp"]
    environment = {"GLOO_SOCKET_IFNAME": "lo"}
    done = run_command("train", *TINY, *ddp, cwd=tmp_path, module="brcd_lightning", env=environment)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs" / "runs").glob("*/DONE"))) == 1
