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
    SetSignersResponse,
)
from cloister.client import OwnerClient, ReleaseTerms, policy_draft, read_document, seal_to
from cloister.errors import InvalidRequest, LogBroken, NotFound
from cloister.kit.signed_policy import verified_policy
from cloister.seal import manifest
from cloister.seal.model_file import open_model
from cloister.tlog.merkle import leaf_hash
from fakes.signer_sets import signed_set, signer_set

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

    async def SetSigners(self, request: Any, timeout: float) -> SetSignersResponse:  # noqa: ASYNC109
        self.sent.append(request)
        return SetSignersResponse(audit_sequence=9)

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


SUMMARY = ModelSummary(name="iris", version=3, policy=ReleasePolicy(version=4, min_model_version=2))
PEOPLE = [Ed25519PrivateKey.generate() for _ in range(2)]
SET = signer_set(1, 2, *PEOPLE)
HANDED_ON = ModelSummary(
    name="iris", version=3, policy=ReleasePolicy(version=4), signer_sets=[signed_set(SET, OWNER, *PEOPLE)]
)


@pytest.mark.attack("F05")
async def test_the_floor_stays_where_it_is_unless_it_is_said_anew() -> None:
    provisioner = FakeProvisioner(SUMMARY)
    kept, _ = await owner_of(provisioner).allow("iris", mrenclave=["ab" * 32])
    raised, _ = await owner_of(provisioner).allow("iris", mrenclave=["ab" * 32], min_model_version=3)
    assert (kept.min_model_version, raised.min_model_version) == (2, 3)


async def test_platforms_are_any_or_those_that_are_named() -> None:
    owner = owner_of(FakeProvisioner(SUMMARY))
    anywhere, _ = await owner.allow("iris", mrenclave=["ab" * 32])
    here, _ = await owner.allow("iris", mrenclave=["ab" * 32], platforms=["c3" * 32], releases_per_hour=60)
    assert not anywhere.HasField("platforms")
    assert (list(here.platforms.ppid_sha256), here.releases_per_hour) == (["c3" * 32], 60)


async def test_where_others_sign_the_owner_drafts_and_hands_in_what_they_signed() -> None:
    provisioner = FakeProvisioner(HANDED_ON)
    owner = owner_of(provisioner)
    assert await owner.signers("iris") == SET
    draft = read_document(policy_draft(await owner.draft("iris", ReleaseTerms(mrenclave=["ab" * 32]))))
    assert (draft.policy().version, draft.policy().signer_set) == (5, 1)
    signed = draft.signed(PEOPLE[0]).signed(PEOPLE[1])
    assert await owner.apply(signed) == 8
    (sent,) = provisioner.sent
    assert verified_policy(sent.policy, sent.signature, PUBLIC, HANDED_ON.signer_sets).signer_set == 1


async def test_a_signer_set_is_handed_in_as_it_was_signed() -> None:
    provisioner = FakeProvisioner(SUMMARY)
    signed = read_document(HANDED_ON.signer_sets[0])
    assert await owner_of(provisioner).apply(signed) == 9
    assert provisioner.sent[0].signer_set == HANDED_ON.signer_sets[0]


@pytest.mark.attack("C08")
async def test_signers_that_the_owners_key_does_not_lead_to_are_not_shown() -> None:
    forged = ModelSummary(name="iris", signer_sets=[signed_set(SET, *PEOPLE)])
    with pytest.raises(InvalidRequest):
        await owner_of(FakeProvisioner(forged)).signers("iris")
    with pytest.raises(NotFound):
        await owner_of(FakeProvisioner()).signers("iris")
