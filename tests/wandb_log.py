"""Reads an offline wandb run: a LevelDB log (7-byte head, 32 KiB blocks) of protobuf records."""

import struct
import time
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
FIRST_OR_MIDDLE = (2, 3)


def read_records(folder: Path) -> list[Record]:
    """All records of a run that has ended; wandb's own process may still be writing the last of them."""
    for _ in range(600):
        records = _read(folder)
        if any(record.HasField("exit") for record in records):
            return records
        time.sleep(0.05)
    raise TimeoutError(f"{folder} has no exit record")


def _read(folder: Path) -> list[Record]:
    (file,) = folder.glob("run-*.wandb")
    data, records, parts, position = file.read_bytes(), [], b"", 7
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind not in FIRST_OR_MIDDLE:
            records.append(Record.FromString(parts))
            parts = b""
    return records
