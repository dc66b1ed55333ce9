"""Folders of codes as ``brcd encode`` writes them, without encoding; and a push that is killed."""

import subprocess
import sys
import textwrap

import numpy as np
import torch

from brcd_lightning.codes import pack
from brcd_lightning.deployment.encoding.parts import (
    CodeRows,
    CodesDescription,
    begin,
    digest_of,
    part_path,
    write_part,
)
from conftest import clustered_codes

# Names that a careless program would take for SQL, for the end of a field, or for something else than text.
HOSTILE = [
    "it's.png",
    'a "quoted" name.png',
    "x'); drop table brcd_codes; --.png",
    "back\\slash\\N.png",
    "tab\there.png",
    "line\nbreak.png",
    "größe/雪/🦊.png",
    "%s {} $1 \\.png",
]


def clustered(rows, bits, seed=0, prototypes=50):
    """Packed codes (rows, B) uint8 with many equal distances."""
    codes = clustered_codes(rows, bits, torch.Generator().manual_seed(seed), prototypes)
    return pack(codes.to(torch.int8)).numpy()


def write_codes(folder, codes, bits, *, names=None, unreadable=(), part_size=64, **changes):
    """Writes a folder of codes; `unreadable` are positions without a code."""
    names = [f"{number:06d}.png" for number in range(len(codes))] if names is None else list(names)
    told = {"encoder": "e0", "role": "student", "teacher": "t0", "root": "/photos"}
    description = CodesDescription(
        bits=bits, names=digest_of(names), count=len(names), part_size=part_size, **{**told, **changes}
    )
    begin(folder, description)
    status = np.array(["ok"] * len(names), object)
    status[list(unreadable)] = "the file is empty"
    for number in range(description.parts):
        rows = slice(number * part_size, (number + 1) * part_size)
        write_part(part_path(folder, number), CodeRows(names[rows], codes[rows], status[rows].tolist()))
    return folder


SLOW_PUSH = """
    import sys, time
    from pathlib import Path
    from brcd_lightning.deployment.databases import push

    def slow(codes, batch=10, rows_of=push.rows_of):
        for block in rows_of(codes, batch):
            yield block
            print("pushed", flush=True)
            time.sleep(0.05)

    push.rows_of = slow
    push.push_codes(Path(sys.argv[1]), sys.argv[2], replace=True)
"""


def killed_push(folder, address, ending):
    """Pushes a folder of codes, and sends the process a signal after 50 rows."""
    command = [sys.executable, "-c", textwrap.dedent(SLOW_PUSH), str(folder), address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(5):
            assert process.stdout.readline() == "pushed\n"
        process.send_signal(ending)
    assert process.returncode == -ending
