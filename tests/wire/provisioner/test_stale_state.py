"""A provisioner that was started from an older copy of its state, over the wire."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import Message

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.client import OwnerClient
from cloister.client.operator import resume
from cloister.ear import SigningKey
from cloister.errors import CloisterError, NotReady
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.servicer import RESUME, ROLES
from cloister.seal.keys import ModelKey
from fakes.pki import MeshPki
from fakes.release_desk import MODEL_KEY, signed_manifest
from fakes.results import MODEL, MRENCLAVE
from fakes.running_services import (
    CALL_S,
    Running,
    provisioner_settings,
    running_provisioner,
    running_verifier,
    verifier_settings,
)
from fakes.sim import simulated_platform

OWNER_KEY = Ed25519PrivateKey.generate()


@pytest.mark.attack("F09")
@pytest.mark.attack("H07")
async def test_it_answers_nothing_but_the_call_by_which_an_operator_goes_on(tmp_path: Path, pki: MeshPki) -> None:
    key = SigningKey.generate()
    settings = verifier_settings(tmp_path / "v", pki, simulated_platform(), key)
    state = tmp_path / "p" / "state"
    async with running_verifier(settings, pki) as verifier:
        address = f"127.0.0.1:{verifier.server.port}"
        ours = replace(provisioner_settings(tmp_path / "p", pki, key), verifier=address)
        async with running_provisioner(ours, pki) as provisioner, owner_of(provisioner) as owner:
            await owner.register(signed_manifest(OWNER_KEY), ModelKey(MODEL_KEY))
        shutil.copy(state / NAME, tmp_path / "copy.db")
        async with running_provisioner(ours, pki) as provisioner, owner_of(provisioner) as owner:
            await owner.allow(MODEL, mrenclave=[MRENCLAVE])
        shutil.copy(tmp_path / "copy.db", state / NAME)
        async with running_provisioner(ours, pki) as provisioner:
            assert await answered(provisioner) == {RESUME}
            async with provisioner.as_role("operator") as operator:
                with pytest.raises(NotReady, match="--have 2 --should 3"):
                    await resume(operator, have=0, should=0, reason="the disk was lost")
                answer = await resume(operator, have=2, should=3, reason="the disk was lost")
                assert (answer.audit_sequence, answer.generation) == (3, 2)
            async with owner_of(provisioner) as owner:
                assert [model.held_since for model in await owner.models()] == [2]
                await owner.allow(MODEL, mrenclave=[MRENCLAVE])
                assert [model.held_since for model in await owner.models()] == [0]


@asynccontextmanager
async def owner_of(provisioner: Running) -> AsyncIterator[OwnerClient]:
    """Its owner's connection."""
    async with provisioner.as_role("owner", "alice") as peer:
        yield OwnerClient(peer, provisioner.pki.cluster, OWNER_KEY)


async def answered(provisioner: Running) -> set[str]:
    """The methods that do not say that the state is stale."""
    return {method for method, roles in ROLES.items() if not await _says_stale(provisioner, method, min(roles))}


async def _says_stale(provisioner: Running, method: str, role: str) -> bool:
    name = method.rpartition("/")[2]
    request: Message = getattr(pb, f"{name}Request")()
    async with provisioner.as_role(role) as peer:
        call: Any = getattr(peer.stub(ProvisionerStub), name)(request, timeout=CALL_S)
        try:
            if hasattr(call, "__aiter__"):
                async for _ in call:
                    pass
            else:
                await call
        except NotReady as refusal:
            return refusal.reason == "state.stale"
        except CloisterError:
            return False
    return False
