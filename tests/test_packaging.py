"""The wheel works away from the checkout, with its configuration inside."""

import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from conftest import ROOT, TINY


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
