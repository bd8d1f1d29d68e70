#!/usr/bin/env python3
"""Tests of plot.py: what it reads, and where matplotlib is, what it draws. Run: python3 scripts/test_plot.py"""

import json
import pathlib
import tempfile
import unittest

import plot

try:
    import matplotlib
except ImportError:
    matplotlib = None


class Plot(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = pathlib.Path(folder.name)

    def write(self, name: str, lost: list[int | None], axis: str = "connections", by: bool = False) -> pathlib.Path:
        folder = self.dir / name
        folder.mkdir(parents=True)
        axes = {"x": {"axis": axis}} | ({"by": {"axis": "depth"}} if by else {})
        (folder / "run.json").write_text(json.dumps({"axes": axes}))
        points = [
            {"schema": 3, "model": model, "connections": 4**place, axis: 4**place, "status": "ok", "order": order, "lost": lost}
            for order, (model, place, lost) in enumerate((model, place, number) for model in ("epoll", "udp") for place, number in enumerate(lost))
        ]
        (folder / "points.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
        return folder

    def test_zero_is_a_value_and_nothing_is_none(self) -> None:
        rows = plot.series(plot.read_points(self.write("a", [0, 5, None]), "connections"), "epoll", "lost")
        self.assertEqual([(x, median) for x, median, *_ in rows], [(1, 0), (4, 5)])

    def test_what_varies_the_same_shares_a_panel_and_a_folder_of_several_stands_for_all(self) -> None:
        self.write("all/one", [0, 1])
        self.write("all/two", [0, 1], axis="depth")
        self.write("all/three", [0, 1], by=True)
        self.write("all/four", [None])
        (self.dir / "all" / "experiments.json").write_text(json.dumps({"experiments": ["one", "two", "three", "four"]}))
        panels = plot.read([self.dir / "all", self.write("five", [3, 0])], "lost")
        self.assertEqual({axis: [name for name, _ in runs] for axis, runs in panels.items()}, {"connections": ["one", "five"], "depth": ["two"]})

    def test_where_nothing_can_be_drawn_it_says_why(self) -> None:
        with self.assertRaisesRegex(plot.Failure, "no figure for --y lost"):
            plot.read([self.write("a", [None])], "lost")
        with self.assertRaisesRegex(plot.Failure, "no such folder"):
            plot.read([self.dir / "absent"], "lost")

    @unittest.skipUnless(matplotlib, "matplotlib is missing: pip install matplotlib")
    def test_zeros_are_drawn_on_every_scale(self) -> None:
        matplotlib.use("Agg")
        from matplotlib.figure import Figure

        for number, lost in enumerate(([0, 5, 500], [0, 0])):
            runs = plot.read([self.write(str(number), lost)], "lost")["connections"]
            for scale in (None, "linear", "log"):
                axes = Figure().subplots()
                plot.draw_panel(axes, runs, "connections", "lost", scale)
                low, high = axes.get_ylim()
                drawn = [y for line in axes.lines if line.get_marker() != "None" for y in line.get_ydata()]
                self.assertEqual(sorted(drawn), sorted(2 * lost), scale)
                self.assertTrue(all(low <= y <= high for y in drawn), f"{scale}: {low} to {high}")
                self.assertIn(0, axes.get_yticks())


if __name__ == "__main__":
    unittest.main()
