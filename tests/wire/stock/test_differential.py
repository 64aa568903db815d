"""A thousand requests, good and bad, to the mesh, held against what MLServer answered to the same ones.

The recording is in tests/vectors; `make differential` asks a live MLServer again. Each difference is listed with its
reason in `differential/rules.py`; one that is not, or a rule that nothing needs any more, fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
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
from differential.record import over_grpc, over_rest
from differential.rules import RULES, Carrier, difference
from fakes import networks
from fakes.pki import MeshPki
from fakes.running_gateway import Rig
from fakes.running_rest import RestRig
from fakes.serving_mesh import serving_mesh, serving_rest

pytestmark = pytest.mark.asyncio(loop_scope="module")
RECORDING = Path(os.environ.get("CLOISTER_DIFFERENTIAL", Path(__file__).parents[2] / "vectors/mlserver-oip.json"))


def models() -> dict[str, Any]:
    """As `differential/mlserver_server.py` has them."""
    return {echo_name(each): networks.echo(np.dtype(NUMPY[each])) for each in ECHOED} | {MIX: networks.mixed()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with serving_mesh(tmp_path_factory.mktemp("mesh"), MeshPki(), models()) as rig:
        yield rig


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestRig]:
    async with serving_rest(tmp_path_factory.mktemp("rest"), MeshPki(), models(), "own") as rig:
        yield rig


@pytest.fixture(scope="module")
def recorded() -> Any:
    content = json.loads(RECORDING.read_text())
    assert (content["seed"], content["count"]) == (SEED, COUNT), "the requests have changed: make differential"
    return content


def unlisted(carrier: Carrier, ours: dict[int, Told], recorded: dict[str, str]) -> list[str]:
    """Differences that no rule gives a reason for, and rules that nothing needs."""
    asked = {ask.number: ask for ask in asks()}
    assert set(ours) == {int(number) for number in recorded}
    wrong, used = [], set()
    for number, told in ours.items():
        theirs = Told.read(recorded[str(number)])
        aspect = difference(told, theirs)
        if not aspect:
            continue
        found = [rule for rule in RULES if rule.explains(carrier, asked[number], aspect, told, theirs)]
        used |= set(found[:1])
        if not found:
            wrong.append(f"{number} {asked[number].kind}, {aspect}: {told.text()} here, {theirs.text()} there")
    idle = [rule for rule in RULES if rule.carrier == carrier and rule not in used]
    return wrong + [f"nothing needs {rule}" for rule in idle]


async def test_over_grpc_every_difference_to_mlserver_has_a_reason(mesh: Rig, recorded: Any) -> None:
    pems = mesh.pki.identity("client", "ann")
    credentials = grpc.ssl_channel_credentials(pems.trust_roots, pems.private_key, pems.certificate)
    name = (("grpc.ssl_target_name_override", server_name(mesh.pki.cluster, "gateway")),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{mesh.port}", credentials, options=name) as channel:
        told = await over_grpc(channel, asks())
    assert unlisted("grpc", told, recorded["grpc"]) == []


async def test_over_rest_every_difference_to_mlserver_has_a_reason(rest: RestRig, recorded: Any) -> None:
    client = await rest.client()

    async def post(path: str, body: bytes) -> tuple[int, bytes]:
        answer = await client.post(path, content=body, headers={"content-type": "application/json"})
        return answer.status_code, answer.content

    told = await over_rest(post, asks())
    assert unlisted("rest", told, recorded["rest"]) == []


async def test_neither_a_new_difference_nor_an_idle_rule_goes_unnoticed(recorded: Any) -> None:
    theirs = {int(number): Told.read(text) for number, text in recorded["grpc"].items()}
    told = unlisted("grpc", theirs, recorded["grpc"])
    assert told == [f"nothing needs {rule}" for rule in RULES if rule.carrier == "grpc"]
    good = next(ask.number for ask in asks() if ask.kind == "good")
    for changed in (Told("INTERNAL"), replace(theirs[good], outputs="other"), replace(theirs[good], id="other")):
        told = unlisted("grpc", theirs | {good: changed}, recorded["grpc"])
        assert told[0].startswith(f"{good} good, ")
