"""Tenants by the command, in a mesh that runs: what one may not see is gone for it, and comes back."""

from __future__ import annotations

import json
import re

from fakes.running_mesh import MODEL, RunningMesh, until


def answered(mesh: RunningMesh) -> bool:
    """Whether the founder's client sees the model."""
    return MODEL in {model["name"] for model in mesh.json("model", "index", "--identity", mesh.identity("client"))}


def test_a_tenant_comes_and_goes_under_a_running_mesh(mesh: RunningMesh) -> None:
    assert answered(mesh)
    mesh.cli("tenant", "add", "ward", "--model", "another", "--certificate", "client/main", "--calls", "4")
    try:
        until(lambda: not answered(mesh), "the model is gone for the tenant")
        words = ("--identity", mesh.identity("client"))
        assert "(name.unknown)" in mesh.cli("evidence", "show", MODEL, *words, code=1)
        assert mesh.cli("evidence", "show", "unheard-of", *words, code=1) == mesh.cli(
            "evidence", "show", MODEL, *words, code=1
        ).replace(MODEL, "unheard-of")
        (key,) = re.findall(r"clk_\S+", mesh.cli("tenant", "key", "add", "ward"))
        told = json.dumps(mesh.json("tenant", "list"))
        assert key.split("_")[1] in told
        assert key not in told
        assert all(key not in mesh.log(program["name"]) for program in mesh.state["programs"])
    finally:
        mesh.cli("tenant", "remove", "ward")
    until(lambda: answered(mesh), "the model is there again")
