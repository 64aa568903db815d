"""Draws what `make bench` kept: `plots.py serving-NETWORK.json`. Runs where matplotlib is, and needs nothing else.

Two pictures: answers per second by requests in flight, and CPU for each answer by process at the most in flight.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt

GATEWAY, WORKER, OTHER, PEER = "#2f6f9f", "#e08a2e", "#9aa5ad", "#6b7b86"
LIMIT = "OpenVINO"


def label(row: dict[str, Any]) -> str:
    """Of one bar."""
    return f"{row['system']}, {row['carrier']}"


def colour(system: str, process: str) -> str:
    """Of one part of a bar."""
    if system != "mesh":
        return PEER
    return GATEWAY if process == "gateway" else WORKER if process.startswith("worker") else OTHER


def draw_cpu(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Stacked by process."""
    for at, row in enumerate(rows):
        left = 0.0
        for process, used in sorted(row["cpu_us"].items()):
            axes.barh(at, used, left=left, color=colour(row["system"], process))
            left += used
        least, most = row["spread_us"]
        axes.plot([least, most], [at, at], color="black", linewidth=1)
        axes.text(most, at, f" {row['total_cpu_us']:.0f}", va="center")
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("CPU for each answer, µs, of all processes (mesh: gateway, then worker); lines from least to most")


def draw_rates(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Lines, one for each system and way to ask it."""
    for name in dict.fromkeys(label(row) for row in rows):
        mine = [row for row in rows if label(row) == name]
        style = {"OpenVINO": ":", "mesh": "-"}.get(mine[0]["system"], "--")
        axes.plot([row["in_flight"] for row in mine], [row["per_s"] for row in mine], style, marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("requests in flight")
    axes.set_ylabel("answers per second")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def main() -> None:
    """Draw both, as SVG and PNG beside the JSON."""
    path = Path(sys.argv[1])
    found = json.loads(path.read_text())
    most = max(row["in_flight"] for row in found["rows"])
    of_most = [row for row in found["rows"] if row["in_flight"] == most]
    machine = found["machine"]
    for name, draw, rows in (("cpu", draw_cpu, of_most), ("rates", draw_rates, found["rows"])):
        figure, axes = plt.subplots(figsize=(10, 5))
        draw(axes, rows)
        about = f", {most} in flight" if name == "cpu" else ""
        axes.set_title(f"{found['network']}{about}; {machine['processor']}, {machine['processors']} cores", fontsize=10)
        for kind in ("svg", "png"):
            figure.savefig(path.with_name(f"{path.stem}-{name}.{kind}"), bbox_inches="tight")
        plt.close(figure)


if __name__ == "__main__":
    main()
