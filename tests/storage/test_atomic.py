import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from brcd_lightning.storage.atomic import atomic_path, remove_temporaries, sha256_of, write_text


def test_replaces_the_target_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "a.txt"
    write_text(target, "one")
    write_text(target, "two")
    assert target.read_text() == "two"
    assert [entry.name for entry in target.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kill_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    code = (
        "import os, signal, sys\nfrom brcd_lightning.storage.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as t:\n    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"


def _save_with_torch(path):
    with path.open("wb") as file:
        torch.save(torch.zeros(100_000), file)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(400_000)),
        lambda path: save_file({"a": torch.zeros(100_000)}, path),
        _save_with_torch,
    ],
    ids=["bytes", "safetensors", "torch"],
)
def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path, write):
    target = tmp_path / "a.bin"
    write_text(target, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error, atomic_path(target) as temporary:
            write(temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(target))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_files_follow_the_umask(tmp_path):
    old = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_temporaries_of_the_killed_are_removed(tmp_path):
    kept = tmp_path / "a.txt"
    write_text(kept, "a")
    (tmp_path / ".a.txt.x1.tmp.txt").touch()
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]
