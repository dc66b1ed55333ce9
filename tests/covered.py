"""Holds a coverage report against its floors: ``python tests/covered.py coverage.json``."""

import json
import sys
from pathlib import Path

FLOOR, FLOOR_OF_A_FILE = 90.0, 80.0
"""Percent of the lines of `src`, all together and in each file, that the fast tests run in their own process."""


def main(path):
    """Prints the total and the files below their floor; returns the exit code."""
    report = json.loads(Path(path).read_text())
    total = report["totals"]["percent_covered"]
    shares = {name: file["summary"]["percent_covered"] for name, file in report["files"].items()}
    below = {name: share for name, share in sorted(shares.items()) if share < FLOOR_OF_A_FILE}
    print(f"{total:.1f} % of all lines, at least {FLOOR:.0f} % are asked for")
    for name, share in below.items():
        print(f"{name}: {share:.1f} %, at least {FLOOR_OF_A_FILE:.0f} % are asked for")
    return int(total < FLOOR or bool(below))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
