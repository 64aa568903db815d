"""A thousand requests, good and bad, to the mesh, held against what MLServer answered to the same ones.

The recording is in tests/vectors; `make differential` asks a live MLServer again. Each difference is listed with its
reason in `differential/rules.py`; one that is not, or a rule that nothing needs any more, fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
import pytest_asyncio

from cloister.rpc.spiffe import server_name
from differential.answers import Told
from differential.asks import COUNT, ECHOED, MIX, SEED, asks, echo_name
from differential.forms import NUMPY
from differential.record import over_grpc
from differential.rules import RULES, Carrier, difference
from fakes import networks
from fakes.pki import MeshPki
from fakes.running_gateway import Rig
from fakes.serving_mesh import serving_mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")
RECORDING = Path(os.environ.get("CLOISTER_DIFFERENTIAL", Path(__file__).parents[2] / "vectors/mlserver-oip.json"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    models = {echo_name(each): networks.echo(np.dtype(NUMPY[each])) for each in ECHOED} | {MIX: networks.mixed()}
    async with serving_mesh(tmp_path_factory.mktemp("mesh"), MeshPki(), models) as rig:
        yield rig


@pytest.fixture(scope="module")
def recorded() -> Any:
    content = json.loads(RECORDING.read_text())
    assert (content["seed"], content["count"]) == (SEED, COUNT), "the requests have changed: make differential"
    return content


def unlisted(carrier: Carrier, ours: dict[int, Told], recorded: dict[str, str]) -> list[str]:
    """Differences that no rule gives a reason for, and rules that nothing needs."""
    kinds = {ask.number: ask.kind for ask in asks()}
    assert set(ours) == {int(number) for number in recorded}
    wrong, used = [], set()
    for number, told in ours.items():
        theirs = Told.read(recorded[str(number)])
        aspect = difference(told, theirs)
        if not aspect:
            continue
        found = [rule for rule in RULES if rule.explains(carrier, kinds[number], aspect, told, theirs)]
        used |= set(found)
        if len(found) != 1:
            wrong.append(f"{number} {kinds[number]}, {aspect}: {told.text()} here, {theirs.text()} there")
    idle = [rule for rule in RULES if rule.carrier == carrier and rule not in used]
    return wrong + [f"nothing needs {rule}" for rule in idle]


async def test_over_grpc_every_difference_to_mlserver_has_a_reason(mesh: Rig, recorded: Any) -> None:
    pems = mesh.pki.identity("client", "ann")
    credentials = grpc.ssl_channel_credentials(pems.trust_roots, pems.private_key, pems.certificate)
    name = (("grpc.ssl_target_name_override", server_name(mesh.pki.cluster, "gateway")),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{mesh.port}", credentials, options=name) as channel:
        told = await over_grpc(channel, asks())
    assert unlisted("grpc", told, recorded["grpc"]) == []
