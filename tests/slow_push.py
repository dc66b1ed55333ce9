"""Pushes a folder of codes to a database, ten rows at a time and slowly: ``python -m slow_push FOLDER ADDRESS``."""

import sys
import time
from pathlib import Path

from brcd_lightning.deployment.databases import push


def slow(codes, batch=10, rows_of=push.rows_of):
    for block in rows_of(codes, batch):
        yield block
        print("pushed", flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    push.rows_of = slow
    push.push_codes(Path(sys.argv[1]), sys.argv[2], replace=True)
