"""A provisioner and its witness over the wire, and an auditor who believes neither of their operators."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.api.v1.verifier_pb2 import GetKeysRequest
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.client.audit_memory import AuditMemory
from cloister.client.log_audit import LogAudit
from cloister.client.log_auditor import LogAuditor
from cloister.ear import SigningKey
from cloister.errors import NotReady
from fakes.pki import MeshPki
from fakes.release_desk import MODEL_KEY, signed_manifest
from fakes.running_services import (
    CALL_S,
    Running,
    provisioner_settings,
    running_provisioner,
    running_verifier,
    verifier_settings,
)
from fakes.sim import simulated_platform


@asynccontextmanager
async def _verifier(folder: Path, pki: MeshPki, key: SigningKey) -> AsyncIterator[Running]:
    async with running_verifier(verifier_settings(folder, pki, simulated_platform(), key), pki) as verifier:
        yield verifier


async def _register(provisioner: Running, owner: Ed25519PrivateKey, version: int) -> int:
    manifest, signature, public_key = signed_manifest(owner, version=version)
    signed = pb.SignedManifest(manifest=manifest, signature=signature, public_key=public_key)
    async with provisioner.as_role("owner") as peer:
        stub: Any = peer.stub(ProvisionerStub)
        request = pb.RegisterModelRequest(manifest=signed, model_key=MODEL_KEY.reveal())
        return int((await stub.RegisterModel(request, timeout=CALL_S)).audit_sequence)


async def _audited(verifier: Running, provisioner: Running, memory: Path, role: str = "auditor") -> LogAudit:
    async with verifier.as_role(role) as to_verifier, provisioner.as_role(role) as to_provisioner:
        owner = role == "owner"
        auditor = LogAuditor(to_verifier, to_provisioner, AuditMemory(memory), owner=owner)
        audit = await auditor.verify()
        await auditor.show(audit.head.head.size)
        return audit


async def test_what_is_changed_is_countersigned_first_and_proven_to_auditor_and_owner(
    tmp_path: Path, pki: MeshPki
) -> None:
    key, owner = SigningKey.generate(), Ed25519PrivateKey.generate()
    async with _verifier(tmp_path / "v", pki, key) as verifier:
        settings = provisioner_settings(tmp_path / "p", pki, key, verifier=f"127.0.0.1:{verifier.server.port}")
        async with running_provisioner(settings, pki) as provisioner:
            sequence = await _register(provisioner, owner, 1)
            audit = await _audited(verifier, provisioner, tmp_path / "audit.json")
            assert audit.head.head.size >= sequence
            async with verifier.as_role("client") as peer:
                stub: Any = peer.stub(VerifierStub)
                vkey = (await stub.GetKeys(GetKeysRequest(), timeout=CALL_S)).witness
            assert [each.vkey for each in audit.keys.witnesses] == [vkey]
        async with running_provisioner(settings, pki) as provisioner:  # which left its lease, so nobody waits
            await _register(provisioner, owner, 2)
            audit = await _audited(verifier, provisioner, tmp_path / "audit.json")
            assert audit.kept_size == sequence
            audit = await _audited(verifier, provisioner, tmp_path / "owner.json", "owner")
            assert audit.lines == 2


@pytest.mark.attack("F10")
async def test_a_provisioner_on_a_copy_of_the_state_changes_nothing(tmp_path: Path, pki: MeshPki) -> None:
    key, owner = SigningKey.generate(), Ed25519PrivateKey.generate()
    async with _verifier(tmp_path / "v", pki, key) as verifier:
        settings = provisioner_settings(tmp_path / "p", pki, key, verifier=f"127.0.0.1:{verifier.server.port}")
        async with running_provisioner(settings, pki) as provisioner:
            await _register(provisioner, owner, 1)
        shutil.copytree(settings.state_dir, tmp_path / "copy")
        async with (
            running_provisioner(settings, pki) as provisioner,
            running_provisioner(replace(settings, state_dir=tmp_path / "copy"), pki) as second,
        ):
            with pytest.raises(NotReady) as refused:
                await _register(second, owner, 3)
            assert refused.value.reason == "writer.other"
            await _register(provisioner, owner, 2)


@pytest.mark.attack("H05")
async def test_without_its_witness_a_provisioner_changes_nothing(tmp_path: Path, pki: MeshPki) -> None:
    key, owner = SigningKey.generate(), Ed25519PrivateKey.generate()
    async with _verifier(tmp_path / "v", pki, key) as verifier:
        settings = provisioner_settings(tmp_path / "p", pki, key, verifier=f"127.0.0.1:{verifier.server.port}")
    async with running_provisioner(settings, pki) as provisioner:
        with pytest.raises(NotReady) as refused:
            await _register(provisioner, owner, 1)
        assert refused.value.reason == "witness.behind"
