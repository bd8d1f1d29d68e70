#!/usr/bin/env python3
"""Check a results folder, or a folder of several: every model is present, no point is invalid, the report is written.

Usage: check_results.py RESULTS

Exit status 1 names what is missing. For CI; the standard library suffices.
"""

import json
import pathlib
import sys

# Who has to be there in the experiment `connections`, which is about all of them.
EVERYBODY = {"fork", "threads", "threads-direct", "select", "poll", "epoll", "udp", "raw"}
FILES = ["points.jsonl", "environment.json", "run.json", "report.html", "summary.json"]


def problems(folder: pathlib.Path) -> list[str]:
    found = [f"{name} is missing or empty" for name in FILES if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if found:
        return found
    if not list(folder.glob("*.svg")) or not list(folder.glob("*.png")):
        found.append("no picture")
    points = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    plan = json.loads((folder / "run.json").read_text())
    expected = EVERYBODY if plan["experiment"] == "connections" else {subject["model"] for subject in plan["subjects"]}
    # Whether the machine was quiet is not the program's doing: a doubtful point has figures as well.
    missing = expected - {point["model"] for point in points if point["status"] in ("ok", "doubtful")}
    found += [f"no point with figures of {model}" for model in sorted(missing)]
    # What was tried again is judged by its last try.
    for point in {point["order"]: point for point in points}.values():
        where = f"{point['model']} at {point['connections']} connections"
        if point["status"] == "invalid":
            found.append(f"{where}: invalid: {point['reason']}")
        elif point["status"] == "ok" and not point["messages_per_s"] and point.get("active") != 0:
            found.append(f"{where}: no messages")
    return found


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2 if len(sys.argv) != 2 else 0
    top = pathlib.Path(sys.argv[1])
    several = top / "experiments.json"
    folders = [top / name for name in json.loads(several.read_text())["experiments"]] if several.is_file() else [top]
    found = [f"{folder}: {problem}" for folder in folders for problem in problems(folder)]
    if several.is_file() and not (top / "report.html").is_file():
        found.append(f"{top}: no report of all of them")
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"{top}: every model is there, every point counts" + (f", in {len(folders)} experiments" if len(folders) > 1 else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
