"""A mesh folder as `cloister init` makes it, without a port being looked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.cli import founding
from cloister.cli.founding import Plan
from cloister.cli.mesh_folder import Mesh

CLUSTER = "demo.cloister.internal"


def without_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take ports as free unseen."""
    monkeypatch.setattr(founding, "free_ports", lambda count, first: list(range(first + 1, first + 1 + count)))


def found(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cluster: str = CLUSTER,
    simulated: bool = False,
    mrenclave: Sequence[str] = (),
) -> Mesh:
    """Found a mesh in `folder`; for SGX unless `simulated`."""
    without_ports(monkeypatch)
    plan = Plan(
        folder=folder,
        cluster=cluster,
        models=["iris"],
        hosts=["gateway.example"],
        simulated=simulated,
        mrenclave=mrenclave,
    )
    return founding.found(plan, datetime.now(UTC))
