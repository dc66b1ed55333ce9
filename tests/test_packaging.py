"""The wheel works away from the checkout, with its configuration inside; what describes the project agrees with it."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml

import brcd_lightning
from conftest import ROOT, TINY

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_ships_every_file_that_is_read(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"brcd_lightning/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in names
    package = ROOT / "src" / "brcd_lightning"
    shipped = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {"app.js", "model_card.md", "py.typed"} <= {path.name for path in shipped}
    for path in shipped:
        assert f"brcd_lightning/{path.relative_to(package).as_posix()}" in names


@pytest.mark.slow
def test_the_wheel_runs_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import sys, brcd_lightning.config as c; print(c.CONFIG_DIR); from brcd_lightning.train import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *TINY, "dry_run=true"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(site), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(site / "brcd_lightning" / "conf") in done.stdout
    assert "Results go to" in done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_wheelhouse_for_another_machine_asks_for_what_runs_there():
    def commands(*variables):
        done = subprocess.run(
            ["make", "--dry-run", "wheelhouse", *variables], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout.replace("\\\n", " ")

    here, there = commands(), commands("PYTHON_VERSION=3.12", "PLATFORM=aarch64", "WHEELHOUSE=some place")
    for text in (here, there):
        assert "pip download --no-deps --require-hashes --only-binary=:all:" in text
        assert "--requirement requirements.lock" in text
    assert "--platform" not in here
    assert "--python-version" not in here
    assert "--python-version 3.12" in there
    assert '--dest "some place"' in there
    tags = re.findall(r"--platform (\S+)", there)
    assert tags[0] == "manylinux_2_28_aarch64"  # what is preferred comes first
    assert {"manylinux_2_17_aarch64", "manylinux2014_aarch64"} <= set(tags)


def test_the_version_has_one_source():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/brcd_lightning/__init__.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == brcd_lightning.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert "Bit-mask Robust Contrastive" in citation["preferred-citation"]["title"]


def test_the_changelog_has_the_version_in_the_form_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version) for version in versions[1:])
    assert versions[-1].startswith("[0.1.0]")
    kinds = re.findall(r"^### (.*)$", text, flags=re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_continuous_integration_runs_what_a_developer_runs():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert jobs["test"]["steps"][-1] == {"run": "bash .ci/run"}
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert lowest in jobs["test"]["strategy"]["matrix"]["python"]
    assert jobs["newest"]["steps"][-1] == {"run": "make test-newest"}
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].split()[0].rpartition("/")[2] for hook in hooks] == ["ruff", "ruff", "mypy"]
    assert [line.split()[0].rpartition("/")[2] for line in lint.splitlines()] == ["ruff", "ruff", "mypy"]


def test_the_extra_of_the_site_is_part_of_the_development_environment():
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras["docs"]) <= set(extras["dev"])
