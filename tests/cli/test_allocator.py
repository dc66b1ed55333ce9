import ctypes
import platform
import subprocess
import sys

import pytest

from brcd_lightning.cli.allocator import keep_freed_memory

FREED = """
import torch
from brcd_lightning.cli.allocator import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
for _ in range(2):
    alive = [torch.ones(4, 1 << 20) for _ in range(8)]
    del alive
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_is_kept():
    kilobytes = [
        int(subprocess.run([sys.executable, "-c", FREED.format(kept=kept)], check=True, capture_output=True).stdout)
        for kept in (False, True)
    ]
    assert kilobytes[1] > kilobytes[0] + 50_000, kilobytes


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False
