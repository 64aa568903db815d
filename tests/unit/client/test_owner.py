"""The owner's side: what is signed is what was meant, and the key goes to the provisioner and nowhere else."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.api.v1.audit_pb2 import AuditRecord
from cloister.api.v1.provisioner_pb2 import (
    ListModelsResponse,
    ModelSummary,
    RegisterModelResponse,
    ReleasePolicy,
    SetReleasePolicyResponse,
)
from cloister.client import OwnerClient, seal_to
from cloister.errors import InvalidRequest, LogBroken
from cloister.seal import manifest
from cloister.seal.model_file import open_model
from cloister.tlog.merkle import leaf_hash

OWNER = Ed25519PrivateKey.generate()
PUBLIC = OWNER.public_key().public_bytes_raw()


class FakeProvisioner:
    """Keeps what it is sent."""

    def __init__(self, *models: ModelSummary) -> None:
        self.models = models
        self.sent: list[Any] = []
        self.lines = [AuditRecord(sequence=1, record=b'{"event":"x"}', leaf_hash=leaf_hash(b'{"event":"x"}'))]

    def stub(self, _: object) -> Any:
        return self

    async def RegisterModel(self, request: Any, timeout: float) -> RegisterModelResponse:  # noqa: ASYNC109
        self.sent.append(request)
        return RegisterModelResponse(audit_sequence=7)

    async def SetReleasePolicy(self, request: Any, timeout: float) -> SetReleasePolicyResponse:  # noqa: ASYNC109
        self.sent.append(request)
        return SetReleasePolicyResponse(audit_sequence=8)

    async def ListModels(self, _: Any, timeout: float) -> ListModelsResponse:  # noqa: ASYNC109
        return ListModelsResponse(models=self.models)

    async def ListAudit(self, _: Any, timeout: float) -> Any:  # noqa: ASYNC109
        for line in self.lines:
            yield line


def owner_of(provisioner: FakeProvisioner) -> OwnerClient:
    return OwnerClient(cast(Any, provisioner), "demo.cloister.internal", OWNER)


def test_a_sealed_model_is_opened_by_its_key_and_named_by_its_manifest(tmp_path: Path) -> None:
    source = tmp_path / "model.xml"
    source.write_bytes(b"<net/>")
    told: list[tuple[int, int]] = []
    sealed = seal_to(
        tmp_path / "model.sealed",
        {"model.xml": source},
        name="iris",
        version=3,
        signer=OWNER,
        now=datetime(2026, 1, 1, tzinfo=UTC),
        progress=lambda done, total: told.append((done, total)),
    )
    found = manifest.verify(sealed.signed.manifest, sealed.signed.signature, PUBLIC)
    raw = sealed.path.read_bytes()
    assert (found.name, found.version, found.size_bytes) == ("iris", 3, len(raw))
    assert found.files == (("model.xml", 6),)
    assert told == [(6, 6)]
    opened = open_model(io.BytesIO(raw), sealed.key, name="iris", version=3, digest=found.digest)
    assert bytes(opened.files["model.xml"]) == b"<net/>"
    assert sealed.key.reveal().hex() not in repr(sealed)


def test_half_a_sealed_model_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        seal_to(tmp_path / "model.sealed", {}, name="no such name", version=1, signer=OWNER)
    assert not (tmp_path / "model.sealed").exists()


async def test_registering_sends_exactly_what_was_signed(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"m")
    sealed = seal_to(tmp_path / "sealed", {"m": tmp_path / "m"}, name="iris", version=1, signer=OWNER)
    provisioner = FakeProvisioner()
    assert await owner_of(provisioner).register(sealed.signed, sealed.key) == 7
    (sent,) = provisioner.sent
    assert sent.manifest.manifest == sealed.signed.manifest
    assert sent.manifest.public_key == PUBLIC
    assert sent.model_key == sealed.key.reveal()


async def test_a_policy_is_signed_and_comes_after_the_one_before() -> None:
    provisioner = FakeProvisioner(ModelSummary(name="iris", policy=ReleasePolicy(version=4)))
    policy, line = await owner_of(provisioner).allow("iris", mrenclave=["ab" * 32])
    assert line == 8
    (sent,) = provisioner.sent
    manifest.verify_policy(sent.policy, sent.signature, PUBLIC)
    assert ReleasePolicy.FromString(sent.policy) == policy
    assert (policy.version, list(policy.mrenclave)) == (5, ["ab" * 32])
    assert policy.cluster == "demo.cloister.internal"
    assert not policy.allow_simulated
    assert not policy.allow_plain


async def test_the_record_is_read_with_its_hashes_checked() -> None:
    provisioner = FakeProvisioner()
    lines = [line async for line in owner_of(provisioner).audit()]
    assert [line.content for line in lines] == [json.loads(provisioner.lines[0].record)]
    provisioner.lines[0].record = b'{"event":"y"}'
    with pytest.raises(LogBroken):
        _ = [line async for line in owner_of(provisioner).audit()]
