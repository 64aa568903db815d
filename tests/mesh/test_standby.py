"""A mesh with two provisioners on one state: the one that writes is killed, and another goes on (attack F10)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister.cli.mesh_folder import Mesh
from cloister.cli.reaching import reached
from cloister.client import is_serving
from fakes.running_mesh import RunningMesh, probe, until


def provisioners(mesh: RunningMesh) -> dict[str, dict[str, Any]]:
    """Of each, by name: what `cloister status` says, and its process."""
    found = mesh.json("status")
    processes = {each["name"]: each for each in found["processes"]}
    named = (each for each in found["services"] if each["service"].startswith("provisioner"))
    return {each["service"]: {**each, "pid": processes[each["service"]]["pid"]} for each in named}


def serving(mesh: RunningMesh) -> list[str]:
    """The names of those that serve."""
    return [name for name, each in provisioners(mesh).items() if each["serving"]]


def versions(mesh: RunningMesh) -> set[str]:
    return {model["version"] for model in mesh.json("model", "index") if model["state"] == "READY"}


def _is_serving(mesh: RunningMesh, address: str) -> bool:
    async def asked() -> bool:
        async with reached(Mesh.read(mesh.folder), mesh.identity("operator"), "provisioner", address) as peer:
            return await is_serving(peer, 2.0)

    return asyncio.run(asked())


@pytest.mark.attack("F10")
def test_a_mesh_whose_provisioner_is_killed_goes_on_with_another(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    mesh = RunningMesh(tmp_path / "mesh")
    mesh.found("--provisioners", "2")
    first, second = mesh.seal(probe()), mesh.seal(probe(4), 2)
    with mesh.up(1, "--no-jobs"):
        mesh.cli("model", "publish", first)
        mesh.allow("--allow-simulated", "--allow-plain")
        mesh.until_serving(1)
        mesh.cli("audit", "verify")
        (active,), before = serving(mesh), provisioners(mesh)
        (waits,) = before.keys() - {active}
        assert "the log is written by" in before[waits]["standing_by"]
        os.kill(before[active]["pid"], signal.SIGKILL)
        began_s = time.monotonic()
        # The one that waits, or the one that was started again: whoever asks first when the lease has run out.
        until(lambda: _is_serving(mesh, ",".join(each["address"] for each in before.values())), "one of them serves")
        record_property("takeover_s", round(time.monotonic() - began_s, 1))
        mesh.cli("model", "publish", second)
        until(lambda: versions(mesh) == {"2"}, "the worker has the key of the new version")
        assert "nothing has changed in the" in mesh.cli("audit", "verify")
        after = provisioners(mesh).values()
        assert sorted(each["serving"] for each in after) == sorted(not each["standing_by"] for each in after)
        assert sum(each["serving"] for each in after) == 1
