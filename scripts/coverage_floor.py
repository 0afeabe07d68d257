"""Fail when any one file's coverage is under a floor: `coverage_floor.py 85 [coverage.json]`."""

import json
import sys
from pathlib import Path


def main(floor: float, report: Path) -> int:
    """Print the files of a `coverage json` report that are under `floor` per cent."""
    files = json.loads(report.read_text())["files"]
    covered = {name: file["summary"]["percent_covered"] for name, file in files.items()}
    low = {name: percent for name, percent in sorted(covered.items()) if percent < floor}
    for name, percent in low.items():
        print(f"{name}: {percent:.1f} % covered, and no file may be under {floor:g} %")
    return 1 if low or not covered else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2] if sys.argv[2:] else "coverage.json")))
