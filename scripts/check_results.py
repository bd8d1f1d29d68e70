#!/usr/bin/env python3
"""Check a results folder: every model is present, no point is invalid, the report is written.

Usage: check_results.py RESULTS

Exit status 1 names what is missing. For CI; the standard library suffices.
"""

import json
import pathlib
import sys

EXPECTED = {"fork", "threads", "threads-direct", "select", "poll", "epoll", "udp", "raw"}
FILES = ["points.jsonl", "histograms.jsonl", "environment.json", "run.json", "report.html", "throughput.svg", "throughput.png"]


def problems(folder: pathlib.Path) -> list[str]:
    found = [f"{name} is missing or empty" for name in FILES if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if (folder / "points.jsonl").is_file():
        points = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
        # Whether the machine was quiet is not the program's doing: a doubtful point has figures as well.
        missing = EXPECTED - {point["model"] for point in points if point["status"] in ("ok", "doubtful")}
        found += [f"no point with figures of {model}" for model in sorted(missing)]
        for point in points:
            where = f"{point['model']} at {point['connections']} connections"
            if point["status"] == "invalid":
                found.append(f"{where}: invalid: {point['reason']}")
            elif point["status"] == "ok" and not point["messages_per_s"]:
                found.append(f"{where}: no messages")
    return found


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2 if len(sys.argv) != 2 else 0
    found = problems(pathlib.Path(sys.argv[1]))
    for problem in found:
        print(f"{sys.argv[1]}: {problem}", file=sys.stderr)
    if not found:
        print(f"{sys.argv[1]}: every model is there, every point counts")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
