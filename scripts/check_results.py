#!/usr/bin/env python3
"""Check a results folder, or a folder of several: every model is present, no point is invalid, the report is written.

Usage: check_results.py RESULTS [MODELS]

  RESULTS   a folder that `switchboard run` made
  MODELS    what `switchboard models --all --json` printed: all of these have to be there that this kernel can serve; without it,
            those that the run was planned for

Exit status 1 names what is missing. For CI; the standard library suffices.
"""

import json
import pathlib
import sys

FILES = ["points.jsonl", "environment.json", "run.json", "report.html", "summary.json"]


def problems(folder: pathlib.Path, everybody: set[str] | None) -> list[str]:
    found = [f"{name} is missing or empty" for name in FILES if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if found:
        return found
    if not list(folder.glob("*.svg")) or not list(folder.glob("*.png")):
        found.append("no picture")
    points = [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]
    plan = json.loads((folder / "run.json").read_text())
    # What the kernel cannot serve has limits in place of figures.
    planned = {job["model"] for job in plan["jobs"] if not job["limit"]}
    expected = planned if everybody is None else everybody
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
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return 2 if len(sys.argv) not in (2, 3) else 0
    top = pathlib.Path(sys.argv[1])
    everybody = None
    if len(sys.argv) == 3:
        models = json.loads(pathlib.Path(sys.argv[2]).read_text())
        everybody = {model["name"] for model in models if model["obstacle"] is None}
    several = top / "experiments.json"
    folders = [top / name for name in json.loads(several.read_text())["experiments"]] if several.is_file() else [top]
    found = [f"{folder}: {problem}" for folder in folders for problem in problems(folder, everybody)]
    if several.is_file() and not (top / "report.html").is_file():
        found.append(f"{top}: no report of all of them")
    for problem in found:
        print(problem, file=sys.stderr)
    if not found:
        print(f"{top}: every model is there, every point counts" + (f", in {len(folders)} experiments" if len(folders) > 1 else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
