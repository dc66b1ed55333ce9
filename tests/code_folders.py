"""Folders of codes as ``brcd encode`` writes them, without encoding; and a push that is killed."""

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
from conftest import StartedCommand, clustered_codes

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


def killed_push(folder, address, ending):
    """Pushes a folder of codes, and sends the process a signal after 50 rows."""
    process = StartedCommand(folder, address, cwd=folder, module="slow_push")
    process.wait_for(lambda: process.stdout.count("pushed") >= 5)
    process.send(ending)
    assert process.wait() == -ending
