"""A worker's whole way to a key, with the real verifier and the real provisioner: evidence, result, proof, grant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE
from cloister.ear import SigningKey
from cloister.errors import KeyRefused
from cloister.seal.manifest import sign_policy
from fakes.pki import MeshPki
from fakes.release_desk import MODEL_KEY, signed_manifest
from fakes.results import MODEL, good_policy
from fakes.running_services import (
    CALL_S,
    WireWorker,
    provisioner_settings,
    running_provisioner,
    running_verifier,
    verifier_settings,
)
from fakes.sim import ENCLAVE, simulated_platform


async def publish(owner: Any, key: Ed25519PrivateKey, **policy: Any) -> None:
    raw = good_policy(**policy).SerializeToString()
    await owner.SetReleasePolicy(
        pb.SetReleasePolicyRequest(policy=raw, signature=sign_policy(raw, key)), timeout=CALL_S
    )


async def test_from_evidence_to_key(tmp_path: Path, pki: MeshPki) -> None:
    platform, signing_key, owner_key = simulated_platform(), SigningKey.generate(), Ed25519PrivateKey.generate()
    worker = WireWorker(pki, platform)
    async with (
        running_verifier(verifier_settings(tmp_path / "v", pki, platform, signing_key), pki) as verifier,
        running_provisioner(provisioner_settings(tmp_path / "p", pki, signing_key), pki) as provisioner,
        provisioner.as_role("owner") as owner_peer,
        verifier.as_role("enrol") as enrol,
    ):
        owner: Any = owner_peer.stub(ProvisionerStub)
        manifest, signature, public_key = signed_manifest(owner_key)
        await owner.RegisterModel(
            pb.RegisterModelRequest(
                manifest=pb.SignedManifest(manifest=manifest, signature=signature, public_key=public_key),
                model_key=MODEL_KEY.reveal(),
            ),
            timeout=CALL_S,
        )
        member = worker.identity((await worker.appraised(enrol)).certificate_chain)
        async with verifier.peer(member) as to_verifier, provisioner.peer(member) as to_provisioner:

            async def ask() -> pb.ReleaseKeyResponse:
                result = await worker.appraised(to_verifier, PURPOSE_KEY_RELEASE)
                return await worker.released(to_provisioner, result.attestation_result, MODEL)

            with pytest.raises(KeyRefused):
                await ask()  # nobody is allowed yet
            measured = {"mrenclave": [ENCLAVE.mrenclave.hex()], "signers": []}
            await publish(owner, owner_key, version=1, **measured)
            with pytest.raises(KeyRefused):
                await ask()  # no default policy allows simulated hardware
            await publish(owner, owner_key, version=2, allow_simulated=True, **measured)
            assert (await ask()).lease_id
            await publish(owner, owner_key, version=3, allow_simulated=True, mrenclave=["e5" * 32], signers=[])
            with pytest.raises(KeyRefused):
                await ask()  # renewal meets today's policy
        entries = owner.ListAudit(pb.ListAuditRequest(), timeout=CALL_S)
        events = [entry.record async for entry in entries]
    assert sum(b'"key.released"' in record for record in events) == 1
    assert sum(b'"key.refused"' in record for record in events) == 3
