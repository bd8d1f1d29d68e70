#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = ["matplotlib>=3.8"]
# ///
"""Draw one or several results folders against what they vary.

Usage: plot.py RESULTS... -o FILE [--y throughput|latency|cpu|memory|lost|blind] [--linear|--log]

  RESULTS   folders that `switchboard run` made; several are told apart by the style of their lines. Those that vary the same,
            such as the number of connections, share a panel. A folder of several experiments stands for all of them. What cannot
            be drawn is named and left out: an experiment with two axes has its picture in its report
  -o FILE   the picture; its ending chooses the format: .png, .svg or .pdf
  --y       throughput  messages (or deliveries) per second: median over rounds, with the range (the default)
            latency     p50 (thin) and p99 (thick), medians over rounds
            cpu         CPU time of the server per message
            memory      memory of the server per connection
            lost        datagrams that never came back, or deliveries that a restart of the server cost
            blind       how long subscribers were blind whose server was restarted: median (thin) and longest (thick)
  --linear, --log
            the y-axis; by default throughput and lost are linear and the others logarithmic. Zeros have a place on both: below the
            least value above zero a logarithmic axis goes on in a straight line (symlog)

With uv:        uv run scripts/plot.py results/2026-... -o picture.png
Without uv:     pip install matplotlib, then python3 scripts/plot.py results/2026-... -o picture.png

A damaged line is named by file and line and left out. Points beyond a limit are marked with its name, points that
broke are hollow. Exit status: 0 drawn, 1 failed, 2 wrong arguments.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys

# Colour (Okabe and Ito, 2008, a shade for each model of a family), marker, and whether the line is dashed: as in the report, see
# crates/lab/src/report/style.rs, whose tests compare the two.
STYLES = {
    "iterative": ("#8c8200", "o", False),
    "fork": ("#d55e00", "o", False),
    "prefork": ("#da7321", "s", False),
    "prefork-reuseport": ("#e08842", "D", False),
    "threads": ("#e69f00", "o", False),
    "threads-direct": ("#e9ab21", "s", False),
    "pool": ("#edb842", "D", False),
    "spin": ("#009e73", "o", False),
    "select": ("#21ab85", "s", False),
    "poll": ("#42b797", "D", False),
    "epoll-level": ("#141414", "o", False),
    "epoll": ("#333333", "s", False),
    "reactors": ("#515151", "D", False),
    "epoll-workers": ("#707070", "^", False),
    "raw": ("#8e8e8e", "v", True),
    "tokio": ("#cc79a7", "o", False),
    "tokio-multi": ("#d38ab2", "s", False),
    "uring": ("#0072b2", "o", False),
    "uring-reactors": ("#2184bc", "s", False),
    "raw-uring": ("#4297c6", "D", True),
    "udp": ("#56b4e9", "o", True),
    "udp-epoll": ("#6cbeec", "s", True),
    "udp-mmsg": ("#82c8ef", "D", True),
    "udp-reuseport": ("#98d1f2", "^", True),
    "udp-uring": ("#aedbf4", "v", True),
}
# Servers that are none of the models have a colour and a marker that follow from their names.
OTHERS = ["#6e4628", "#aa3c3c", "#5a5aa0", "#3c6e3c"]
MARKERS = "osD^vPX"
RUN_STYLES = ["-", "--", ":", "-."]

FIGURES = {
    "throughput": ("messages per second", "linear", [("messages_per_s", 2.5)]),
    "latency": ("latency (thin: p50, thick: p99)", "log", [("latency_ns.p50", 1.0), ("latency_ns.p99", 2.5)]),
    "cpu": ("server CPU time per message", "log", [("server_cpu_ns_per_message", 2.5)]),
    "memory": ("server memory per connection", "log", [("memory_bytes_per_connection", 2.5)]),
    "lost": ("messages lost", "linear", [("lost", 2.5)]),
    "blind": (
        "time blind (thin: median subscriber, thick: longest)",
        "log",
        [("reconnect.blind_ns.p50", 1.0), ("reconnect.blind_ns.max", 2.5)],
    ),
}

# What an experiment varies, by its name in run.json: in words, and whether each doubling takes the same room. Where it is
# None, each value takes the same room, whatever it is.
AXES = {
    "connections": ("connections", "log"),
    "active": ("connections that talk", "log"),
    "payload_bytes": ("payload, bytes", "log"),
    "depth": ("messages in flight per connection", "log"),
    "rate_per_s": ("messages per second offered", "log"),
    "load": ("offered load, of what the server can do", "linear"),
    "work_us": ("work per message, µs", None),
    "slow": ("receivers that do not read", None),
    "pause_ms": ("server stopped for, ms", None),
    "restart_ms": ("server away for, ms", None),
    "workers": ("workers", "log"),
    "busy_poll_us": ("looking for events before the loop blocks, µs", None),
}


class Failure(Exception):
    """What went wrong, in one line."""


def style(model: str) -> tuple[str, str, bool]:
    if model in STYLES:
        return STYLES[model]
    server, colon, mechanism = model.partition(":")
    total = 0
    for byte in (colon + mechanism if server in STYLES else model).encode():
        total = (total * 5 + byte) % 2**32
    if server in STYLES:
        colour, _, is_dashed = STYLES[server]
        return colour, MARKERS[total % len(MARKERS)], is_dashed
    return OTHERS[total % len(OTHERS)], MARKERS[total % len(MARKERS)], False


def experiments(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folder, or those of the experiments that it holds."""
    try:
        names = json.loads((folder / "experiments.json").read_text(encoding="utf-8"))["experiments"]
    except (OSError, ValueError, KeyError):
        return [folder]
    return [folder / name for name in names]


def read_axis(folder: pathlib.Path) -> str:
    """What the experiment of a folder varies."""
    try:
        plan = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "connections"
    # Before schema 3 nothing else was varied.
    axes = plan.get("axes", {})
    if axes.get("by"):
        raise Failure(f"{folder}: has two axes; its report has the picture")
    axis = axes.get("x", {}).get("axis", "connections")
    if axis not in AXES:
        raise Failure(f"{folder}: varies {axis}, which this script does not know")
    return axis


def read_points(folder: pathlib.Path, axis: str) -> list[dict]:
    """The points of a folder with their place `x` on the axis; damaged lines are named and left out."""
    if not folder.is_dir():
        raise Failure(f"{folder}: no such folder")
    file = folder / "points.jsonl"
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    points = []
    for number, line in enumerate(lines, start=1):
        try:
            point = json.loads(line)
            if point["schema"] not in (1, 2, 3):
                raise ValueError(f"schema {point['schema']} is not known")
            for key in ("model", "connections", "status", "order"):
                point[key]
            # Where nobody is told to be silent, all connections talk.
            point["x"] = point["connections"] if axis == "active" and point.get(axis) is None else point[axis]
            points.append(point)
        except (ValueError, KeyError, TypeError) as error:
            print(f"{file}:{number}: {error}; line left out", file=sys.stderr)
    if not points:
        raise Failure(f"{file}: no point in it")
    # What was disturbed has been measured twice: the last try counts.
    last = {point["order"]: point for point in points}
    return list(last.values())


def value(point: dict, path: str) -> float | None:
    found = point
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    # Less than zero comes from subtracting one measurement from another, and is none.
    return found if isinstance(found, (int, float)) and found >= 0 else None


def series(points: list[dict], model: str, path: str) -> list[tuple[float, float, float, float, bool]]:
    """The value of x, median, least, greatest, whether it broke; by rising x."""
    rows = []
    mine = [point for point in points if point["model"] == model and point["status"] != "limit"]
    for x in sorted({point["x"] for point in mine}):
        here = [point for point in mine if point["x"] == x]
        # Doubtful points stand in only where there is no good one.
        good = [point for point in here if point["status"] == "ok"]
        values = [found for point in good or here if (found := value(point, path)) is not None]
        if values:
            broke = not good or any(point["status"] == "invalid" for point in here)
            rows.append((x, statistics.median(values), min(values), max(values), broke))
    return rows


def draw(panels: dict[str, list[tuple[str, list[dict]]]], figure: str, scale: str | None, file: pathlib.Path) -> None:
    """One picture, with a panel for each axis."""
    try:
        import matplotlib
    except ImportError as error:
        raise Failure("matplotlib is missing: run this with `uv run scripts/plot.py …`, or `pip install matplotlib`") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 15, "svg.hashsalt": "switchboard"})
    picture, all_axes = plt.subplots(len(panels), figsize=(12.8, 7.2 * len(panels)), dpi=100, squeeze=False)
    for axes, (axis, runs) in zip(all_axes[:, 0], panels.items()):
        draw_panel(axes, runs, axis, figure, scale)
    try:
        metadata = {"Date": None} if file.suffix == ".svg" else None
        picture.savefig(file, bbox_inches="tight", metadata=metadata)
    except (OSError, ValueError) as error:
        raise Failure(f"{file}: {error}") from error


def draw_panel(axes, runs: list[tuple[str, list[dict]]], axis: str, figure: str, scale: str | None) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    label, usual_scale, paths = FIGURES[figure]
    x_label, spread = AXES[axis]
    steps = sorted({point["x"] for _, points in runs for point in points})
    place = (lambda x: x) if spread else steps.index
    counts, models, limits, drawn = set(), [], {}, []
    for run, (_, points) in enumerate(runs):
        for model in dict.fromkeys(point["model"] for point in sorted(points, key=lambda point: order(point["model"]))):
            colour, marker, is_dashed = style(model)
            line_style = RUN_STYLES[run % len(RUN_STYLES)] if len(runs) > 1 else ("--" if is_dashed else "-")
            for path, width in paths:
                rows = series(points, model, path)
                if not rows:
                    continue
                if model not in models:
                    models.append(model)
                values, middle, low, high, broke = zip(*rows)
                counts.update(values)
                drawn += [*middle, *low, *high]
                x = [place(value) for value in values]
                axes.plot(x, middle, line_style, color=colour, linewidth=width, zorder=3)
                for index in range(len(x)):
                    face = "white" if broke[index] else colour
                    axes.plot(x[index], middle[index], marker, color=colour, markerfacecolor=face, markersize=9, zorder=4)
                axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
                limit = min(
                    ((point["x"], point["reason"] or "limit") for point in points if point["model"] == model and point["status"] == "limit"),
                    default=None,
                )
                if limit and path == paths[-1][0]:
                    counts.add(limit[0])
                    axes.plot([x[-1], place(limit[0])], [middle[-1]] * 2, ":", color=colour, linewidth=1.5)
                    axes.plot(place(limit[0]), middle[-1], "x", color=colour, markersize=12, markeredgewidth=3, zorder=5)
                    limits[model] = limit[1]
    if spread == "log":
        axes.set_xscale("log", base=4)
    axes.set_xticks([place(count) for count in sorted(counts)], [f"{count:,.12g}" for count in sorted(counts)])
    axes.xaxis.set_minor_locator(NullLocator())
    above_zero = [value for value in drawn if value > 0]
    if (scale or usual_scale) == "linear" or not above_zero:
        # That everything is zero is something to be seen, too.
        axes.set_ylim(0, None if above_zero else 1)
    elif min(drawn) == 0:
        least, most = min(above_zero), max(above_zero)
        axes.set_yscale("symlog", linthresh=least, linscale=0.3)
        axes.set_ylim(-0.15 * least, most * 1.3)
        powers = [10**power for power in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)]
        axes.yaxis.set_major_locator(FixedLocator([0, *(power for power in powers if least <= power <= most * 1.3)]))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        digits = (1,) if high / low > 300 else (1, 2, 5)
        axes.yaxis.set_major_locator(LogLocator(base=4, subs=(1,)) if figure == "memory" else LogLocator(base=10, subs=digits))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: readable(number, figure)))
    axes.set_xlabel(x_label)
    axes.set_title(label, loc="left", fontsize=20)
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=style(model)[0], marker=style(model)[1], label=model + (f"\nlimit: {limits[model]}" if model in limits else "")) for model in models]
    if len(runs) > 1:
        handles += [Line2D([], [], color="black", linestyle=RUN_STYLES[run % len(RUN_STYLES)], label=name) for run, (name, _) in enumerate(runs)]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def order(model: str) -> int:
    return list(STYLES).index(model) if model in STYLES else len(STYLES)


def readable(number: float, figure: str) -> str:
    if figure in ("throughput", "lost"):
        steps, units = 1000, ["", "k", "M"]
    elif figure == "memory":
        steps, units = 1024, [" B", " KiB", " MiB", " GiB"]
    else:
        steps, units = 1000, [" ns", " µs", " ms", " s"]
    place = 0
    while abs(number) >= steps and place < len(units) - 1:
        number, place = number / steps, place + 1
    return f"{number:.3g}{units[place]}"


def read(results: list[pathlib.Path], figure: str) -> dict[str, list[tuple[str, list[dict]]]]:
    """What can be drawn of these folders, by what they vary. The rest is named; it is a failure if nothing is left."""
    panels, left_out = {}, []
    for folder in [folder for top in results for folder in experiments(top)]:
        try:
            axis = read_axis(folder)
            points = read_points(folder, axis)
            if not any(value(point, path) is not None for point in points for path, _ in FIGURES[figure][2]):
                raise Failure(f"{folder}: no figure for --y {figure}")
            panels.setdefault(axis, []).append((folder.resolve().name, points))
        except Failure as failure:
            left_out.append(failure)
    if not panels:
        raise left_out[0]
    for failure in left_out:
        print(f"plot.py: {failure}; left out", file=sys.stderr)
    return panels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("results", nargs="+", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("-o", dest="file", required=True, type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--y", choices=FIGURES, default="throughput", help=argparse.SUPPRESS)
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--linear", dest="scale", action="store_const", const="linear", help=argparse.SUPPRESS)
    scale.add_argument("--log", dest="scale", action="store_const", const="log", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.file.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"-o {arguments.file}: the ending must be .png, .svg or .pdf")
    try:
        draw(read(arguments.results, arguments.y), arguments.y, arguments.scale, arguments.file)
    except Failure as failure:
        print(f"plot.py: {failure}", file=sys.stderr)
        return 1
    print(arguments.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
