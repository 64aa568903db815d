"""A provisioner that follows its verifier: what is revoked gets no key, and neither does anybody while nobody says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE
from cloister.client import lift, revoke
from cloister.errors import KeyRefused, NotReady
from cloister.kit.revocation import Kind, Name
from cloister.rpc.channel import Peer
from cloister.rpc.identity import TlsIdentity
from cloister.seal.manifest import sign_policy
from fakes.key_ring import SignedKeys, public
from fakes.pki import MeshPki
from fakes.release_desk import MODEL_KEY, signed_manifest
from fakes.results import MODEL, good_policy
from fakes.running_services import (
    CALL_S,
    VERIFIER_NAME,
    Running,
    WireWorker,
    private_file,
    provisioner_settings,
    running_provisioner,
    running_verifier,
    verifier_settings,
)
from fakes.sim import ENCLAVE, simulated_platform

SILENCE_S = 2.0
WITHIN_S = 5.0


@dataclass
class Pair:
    """A verifier and the provisioner that follows it, with one model that `worker` may have."""

    verifier: Running
    provisioner: Running
    worker: WireWorker
    member: TlsIdentity
    to_verifier: Peer
    to_provisioner: Peer

    async def token(self) -> str:
        """A fresh result for a key."""
        return (await self.worker.appraised(self.to_verifier, PURPOSE_KEY_RELEASE)).attestation_result

    async def released(self, token: str | None = None) -> str:
        """A key; returns the id of the lease."""
        answer = await self.worker.released(self.to_provisioner, token or await self.token(), MODEL)
        return answer.lease_id

    async def refusals(self) -> list[str]:
        """Why keys were refused, oldest first."""
        async with self.provisioner.as_role("auditor") as auditor:
            entries: Any = auditor.stub(ProvisionerStub).ListAudit(pb.ListAuditRequest(), timeout=CALL_S)
            lines = [json.loads(entry.record) async for entry in entries]
        return [line["reason"] for line in lines if line["event"] == "key.refused"]


@asynccontextmanager
async def paired(tmp_path: Path, pki: MeshPki, keys: SignedKeys) -> AsyncIterator[Pair]:
    worker, owner_key = WireWorker(pki, simulated_platform()), Ed25519PrivateKey.generate()
    folder, signers = tmp_path / "keys", (public(keys.signer),)
    for key in (keys.old, keys.new):
        private_file(folder / f"{key.kid}.key", key.to_pem())
    (folder / "key_set.json").write_bytes(keys.first())
    settings = replace(
        verifier_settings(tmp_path / "v", pki, worker.platform, keys.old),
        signing_key=None,
        signing_keys=folder,
        key_signers=signers,
    )
    first = tmp_path / "first.json"
    first.write_bytes(keys.first())
    async with running_verifier(settings, pki) as verifier:
        following = replace(
            provisioner_settings(tmp_path / "p", pki, keys.old),
            verifier_keys=first,
            verifier_thumbprints=(),
            key_signers=signers,
            verifier=f"127.0.0.1:{verifier.server.port}",
            silence_s=SILENCE_S,
            releases_per_minute=100_000,
        )
        async with running_provisioner(following, pki) as provisioner:
            await publish(provisioner, owner_key)
            async with verifier.as_role("enrol") as enrol:
                member = worker.identity((await worker.appraised(enrol)).certificate_chain)
            async with verifier.peer(member) as to_verifier, provisioner.peer(member) as to_provisioner:
                pair = Pair(verifier, provisioner, worker, member, to_verifier, to_provisioner)
                await until_released(pair)
                yield pair


async def publish(provisioner: Running, owner_key: Ed25519PrivateKey) -> None:
    async with provisioner.as_role("owner") as peer:
        owner: Any = peer.stub(ProvisionerStub)
        manifest, signature, public_key = signed_manifest(owner_key)
        signed = pb.SignedManifest(manifest=manifest, signature=signature, public_key=public_key)
        await owner.RegisterModel(
            pb.RegisterModelRequest(manifest=signed, model_key=MODEL_KEY.reveal()), timeout=CALL_S
        )
        raw = good_policy(allow_simulated=True, mrenclave=[ENCLAVE.mrenclave.hex()], signers=[]).SerializeToString()
        policy = pb.SetReleasePolicyRequest(policy=raw, signature=sign_policy(raw, owner_key))
        await owner.SetReleasePolicy(policy, timeout=CALL_S)


async def until_released(pair: Pair) -> None:
    """The provisioner has heard the verifier once it releases."""
    while True:
        try:
            await pair.released()
        except NotReady:
            continue
        return


@pytest.fixture
def keys(pki: MeshPki) -> SignedKeys:
    return SignedKeys(
        issuer=f"spiffe://{pki.cluster}/verifier/{VERIFIER_NAME}", turns_at=datetime.now(UTC) + timedelta(days=1)
    )


@pytest.fixture
async def pair(tmp_path: Path, pki: MeshPki, keys: SignedKeys) -> AsyncIterator[Pair]:
    async with paired(tmp_path, pki, keys) as made:
        yield made


@pytest.mark.attack("E11")
@pytest.mark.attack("J14")
async def test_a_result_that_was_signed_before_the_revocation_gets_no_key(pair: Pair) -> None:
    tokens, name = [await pair.token() for _ in range(12)], Name(Kind.MEASUREMENT, ENCLAVE.mrenclave.hex())
    async with pair.verifier.as_role("operator") as operator:
        assert (await revoke(operator, name, "a drill")).members == 1
        async with asyncio.timeout(WITHIN_S):
            while not await refused(pair, tokens.pop()):  # noqa: ASYNC110 - the news is on its way
                await asyncio.sleep(WITHIN_S / 10)
        assert (await pair.refusals())[-1] == "measurement.revoked"
        assert await refused(pair, tokens.pop())
        await lift(operator, name, "the drill is over")
    async with asyncio.timeout(WITHIN_S):
        while await refused(pair, await pair.token()):
            pass


async def refused(pair: Pair, token: str) -> bool:
    try:
        await pair.released(token)
    except KeyRefused:
        return True
    return False


@pytest.mark.attack("H05")
async def test_while_the_verifier_is_silent_nothing_is_released(pair: Pair) -> None:
    token = await pair.token()
    pair.verifier.lifecycle.stop()
    await pair.verifier.server.run()
    reasons: list[str] = []
    while "revocations.unheard" not in reasons:
        try:
            await pair.released(token)
        except (KeyRefused, NotReady) as refused:  # the token serves once: refused for that until the silence is long
            reasons.append(refused.reason)
        await asyncio.sleep(0.1)  # who asks without a pause is muted on record
    assert (await pair.refusals())[-1] == "revocations.unheard"


@pytest.mark.attack("E08")
@pytest.mark.attack("J08")
async def test_a_rotated_key_is_followed_and_no_release_fails(pair: Pair, keys: SignedKeys) -> None:
    keys.turns_at = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
    (pair.verifier.settings.signing_keys / "key_set.json").write_bytes(keys.second())
    signed_by: set[str] = set()
    while keys.new.kid not in signed_by:
        token = await pair.token()
        signed_by.add(ear.key_named(token))
        await pair.released(token)
    assert signed_by == {keys.old.kid, keys.new.kid}
    assert not await pair.refusals()
