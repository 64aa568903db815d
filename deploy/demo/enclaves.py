"""The demonstration's mesh under Gramine: the enclaves are built, and measured, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

from shared_state import share_state
from stage import BIN, cloister, run, short, step


def folder_of(mesh: Path) -> Path:
    """Where the enclaves of a mesh are built; there only if it runs in enclaves."""
    return mesh.parent / "enclaves"


def build_enclaves(mesh: Path) -> None:
    """Verifier, provisioner and worker, and Redis for jobs and for what the verifier remembers."""
    share_state(mesh)
    cloister("enclave", "build-mesh", mesh, "--out", folder_of(mesh))
    for kind in ("worker", "verifier", "provisioner", "redis"):
        found = json.loads((folder_of(mesh) / kind / "measurement.json").read_text())
        size_mib = sum(file["size_bytes"] for file in found["files"].values()) / 2**20
        step(
            "operator",
            f"built the enclave of {kind}: {len(found['files'])} files, {size_mib:.0f} MiB, each pinned by its digest; "
            f"it measures as {short(found['mrenclave'])}",
        )


def measured(mesh: Path, kind: str) -> str:
    """What the worker or the verifier measures as: as it was built, or as the simulator says of a process."""
    built = folder_of(mesh) / kind / "measurement.json"
    if built.exists():
        return str(json.loads(built.read_text())["mrenclave"])
    return str(json.loads(run(BIN / "cloister-simulator", "measure", kind, "--json"))["mrenclave"])
