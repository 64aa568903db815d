"""Draws what `make bench-scale` kept. Runs where matplotlib is, and needs nothing else.

Three pictures: what the model said against what came; p99 by load for each number of workers; answers per second.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt


def draw_check(axes: Any, found: dict[str, Any]) -> None:
    """Points on the diagonal were said rightly."""
    for kind, marker in (("p50", "o"), ("p99", "s")):
        real = [each["came"][f"{kind}_ms"] for each in found["checked"]]
        said = [each["said"][f"{kind}_ms"] for each in found["checked"]]
        axes.loglog(real, said, marker, label=f"{kind}, ms")
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color="grey", linewidth=1)
    axes.set_xlabel("measured")
    axes.set_ylabel("simulated")
    axes.legend()


def draw_points(axes: Any, found: dict[str, Any], kind: str, label: str) -> None:
    """A line for each network and number of workers."""
    points = found["points"]
    styles = dict(zip(dict.fromkeys(point["case"] for point in points), ("-", "--"), strict=False))
    for case, workers in dict.fromkeys((point["case"], point["plan"]["workers"]) for point in points):
        mine = [point for point in points if (point["case"], point["plan"]["workers"]) == (case, workers)]
        values = [point["outcome"][kind] * (1e3 if kind.endswith("_s") and kind != "per_s" else 1) for point in mine]
        loads = [point["load"] for point in mine]
        axes.plot(loads, values, styles[case], marker="o", label=f"{case}, {workers} workers")
    axes.set_yscale("log")
    axes.set_xlabel("load, as a share of what the workers can")
    axes.set_ylabel(label)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def main() -> None:
    """Draw all, as SVG and PNG beside the JSON."""
    path = Path(sys.argv[1])
    found = json.loads(path.read_text())
    pictures = {
        "p99": lambda axes: draw_points(axes, found, "p99_s", "p99, ms"),
        "rates": lambda axes: draw_points(axes, found, "per_s", "answers per second"),
    }
    if found["checked"]:
        pictures["check"] = lambda axes: draw_check(axes, found)
    for name, draw in pictures.items():
        figure, axes = plt.subplots(figsize=(9, 5))
        draw(axes)
        for kind in ("svg", "png"):
            figure.savefig(path.with_name(f"{path.stem}-{name}.{kind}"), bbox_inches="tight")
        plt.close(figure)


if __name__ == "__main__":
    main()
