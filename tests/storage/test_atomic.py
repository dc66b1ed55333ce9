import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from brcd_lightning.storage import atomic
from brcd_lightning.storage.atomic import _HOST, atomic_path, remove_temporaries, sha256_of, write_text


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


def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", None)  # it is that of all threads
    write_text(tmp_path / "a.txt", "x")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea")


WRITER = """
import sys, torch
from safetensors.torch import save_file
from brcd_lightning.storage.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    if temporary.suffix == ".safetensors":
        save_file({"a": torch.ones(3)}, temporary)  # replaces the file, and with it the lock
    else:
        temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.read()
"""


def writer(target):
    """A process that is writing, and its temporary file."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target)], **pipes)
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("suffix", ["txt", "safetensors"])
def test_the_next_writer_removes_what_the_killed_left_and_nothing_of_the_living(tmp_path, suffix):
    killed, left = writer(tmp_path / f"a.{suffix}")
    living, kept = writer(tmp_path / f"b.{suffix}")
    killed.kill()
    killed.communicate()
    foreign = tmp_path / ".c.txt.tmp.txt"
    foreign.touch()
    assert left.exists()
    write_text(tmp_path / "d.txt", "whole")
    assert set(tmp_path.iterdir()) == {kept, foreign, tmp_path / "d.txt"}
    living.communicate()
    assert living.returncode == 0
    assert set(tmp_path.iterdir()) == {foreign, tmp_path / f"b.{suffix}", tmp_path / "d.txt"}


def test_temporaries_of_another_host_are_removed_after_a_day(tmp_path):
    young, old = (tmp_path / f".a.txt.0123abcd-1-{name}.tmp.txt" for name in ("0" * 16, "1" * 16))
    for path, age in ((young, 23), (old, 25)):
        path.touch()
        os.utime(path, times=(time.time() - age * 3600,) * 2)
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_a_temporary_that_was_taken_for_a_stale_one_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_runs", lambda process: False)  # of a host with the same name

    def flock(handle, operation, real=fcntl.flock):
        monkeypatch.setattr(fcntl, "flock", real)
        remove_temporaries(tmp_path)  # by another process, before this one has the lock
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    write_text(tmp_path / "a.txt", "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "whole")]


def test_pipes_and_links_are_no_temporaries(tmp_path):
    pipe, link = (tmp_path / f".a.txt.{_HOST}-{2**30}-{name}.tmp.txt" for name in ("0" * 16, "1" * 16))
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "elsewhere")
    remove_temporaries(tmp_path)
    assert set(tmp_path.iterdir()) == {pipe, link}


def test_a_link_is_replaced_and_never_written_through(tmp_path):
    named, link = tmp_path / "named.txt", tmp_path / "link.txt"
    named.write_text("precious")
    link.symlink_to(named)
    write_text(link, "new")
    assert (named.read_text(), link.read_text(), link.is_symlink()) == ("precious", "new", False)
