from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.api.v1 import verifier_pb2 as pb
from cloister.errors import (
    AlreadyExists,
    EvidenceRejected,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotReady,
    Overloaded,
    Unavailable,
)
from cloister.kit.revocation import ORDER_TYPE, Kind, Name, kind_of, lift_order, names_of, names_told, revoked
from cloister.rpc.identity import PeerIdentity
from cloister.verifier import revocations as module
from cloister.verifier.lift_orders import milliseconds
from cloister.verifier.nonces import Purpose
from cloister.verifier.revocations import RevocationFile, Revocations
from cloister.verifier.rulings import Revocation, Ruling
from fakes.key_ring import public
from fakes.results import INSTANCE, MRENCLAVE, NOW, good_result
from fakes.verifier_desk import VerifierDesk, verifier_desk, worker_peer

BY = "spiffe://demo.cloister.internal/operator/main"
KINDS = list(Kind)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path) as made:
        yield made


def named(desk: VerifierDesk, kind: Kind) -> Name:
    """How the one member of the mesh can be revoked."""
    (member,) = desk.attested.members
    return next(name for name in names_told(member.instance, member.attestation_result) if name.kind is kind)


@pytest.mark.attack("E11")
@pytest.mark.attack("J14")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_member_goes_at_once_and_its_evidence_is_refused(desk: VerifierDesk, kind: Kind) -> None:
    evidence, _ = await desk.join()
    await desk.again(evidence, Purpose.KEY_RELEASE)
    with desk.attested.watching() as events:
        await anext(events)
        await anext(events)
        _, members = await desk.revoker.revoke(named(desk, kind), reason="a drill", by=BY)
        assert (members, desk.attested.members) == (1, [])
        assert (await anext(events)).reason == "revoked"
    for purpose in Purpose:
        with pytest.raises(EvidenceRejected) as refused:
            await desk.again(evidence, purpose)
        assert (str(refused.value), refused.value.step) == ("the request was refused", 0)
    assert desk.attested.members == []
    last = desk.entries()[-1]
    assert (last["event"], last["step"], last["reason"]) == ("evidence.rejected", 7, f"{kind.value}.revoked")


async def test_others_stay(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    await desk.revoker.revoke(Name(Kind.MEASUREMENT, "0" * 64), reason="", by=BY)
    await desk.revoker.revoke(Name(Kind.INSTANCE, "0" * 32), reason="", by=BY)
    assert len(desk.attested.members) == 1
    await desk.again(evidence, Purpose.MESH)


@pytest.mark.attack("J14")
async def test_what_is_revoked_while_a_worker_is_appraised_does_not_slip_through(
    desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, _ = await desk.join()
    name, appended = named(desk, Kind.MEASUREMENT), desk.audit.appended

    async def slow(event: str, **fields: object) -> int:
        if event == "evidence.accepted":
            await desk.revoker.revoke(name, reason="", by=BY)
        return await appended(event, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.audit, "appended", slow)
    with pytest.raises(EvidenceRejected):
        await desk.again(evidence, Purpose.MESH)
    assert desk.attested.members == []
    assert desk.entries()[-1]["reason"] == "measurement.revoked"


@pytest.mark.attack("J14")
async def test_a_revocation_and_its_lift_are_on_the_record_and_outlive_a_restart(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    name = named(desk, Kind.PLATFORM)
    await desk.revoker.revoke(name, reason="stolen", by=BY)
    desk.restart()
    assert [(each.name, each.reason, each.by) for each in desk.revocations.in_force] == [(name, "stolen", BY)]
    with pytest.raises(AlreadyExists):
        await desk.revoker.revoke(name, reason="again", by=BY)
    await desk.revoker.lift(name, reason="found", by=BY)
    desk.restart()
    assert desk.revocations.in_force == []
    with pytest.raises(NotFound):
        await desk.revoker.lift(name, reason="found", by=BY)
    await desk.again(evidence, Purpose.MESH)
    said = [(each["event"], each["kind"], each["value"], each["why"], each["peer"]) for each in desk.entries()[1:3]]
    assert said == [
        ("revocation.made", "platform", name.value, "stolen", BY),
        ("revocation.lifted", "platform", name.value, "found", BY),
    ]


@pytest.mark.attack("J14")
async def test_a_lift_needs_as_many_signatures_as_the_settings_say(tmp_path: Path) -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(3)]
    with verifier_desk(tmp_path, lift=([public(key) for key in keys], 2)) as desk:
        name = Name(Kind.INSTANCE, INSTANCE)
        await desk.revoker.revoke(name, reason="", by=BY)

        def order(*signers: Ed25519PrivateKey, cluster: str = "demo.cloister.internal", later_ms: int = 0) -> bytes:
            at = milliseconds(desk.revocations.held(name).revoked_at) + later_ms
            return dsse.sign(lift_order(cluster, name, at), ORDER_TYPE, signers)

        enough = order(*keys[:2])
        for bad in (
            b"",
            order(keys[0]),
            order(keys[0], Ed25519PrivateKey.generate()),
            order(*keys, cluster="other.test"),
            order(*keys, later_ms=1),
        ):
            with pytest.raises(NotAllowed) as refused:
                await desk.revoker.lift(name, reason="", by=BY, order=bad)
            assert refused.value.reason == "revocation.lift_unsigned"
        await desk.revoker.lift(name, reason="", by=BY, order=enough)
        await asyncio.sleep(0.002)  # the next revocation is made at another millisecond
        await desk.revoker.revoke(name, reason="", by=BY)
        with pytest.raises(NotAllowed, match="another revocation"):
            await desk.revoker.lift(name, reason="", by=BY, order=enough)


@pytest.mark.attack("B18")
async def test_a_member_that_no_longer_passes_is_put_out_and_may_start_anew(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    (member,) = desk.attested.members
    await desk.revoker.expel(member, "no longer believed: pck.revoked" + "x" * 300, by="verifier")
    assert desk.attested.members == []
    with pytest.raises(EvidenceRejected):
        await desk.again(evidence, Purpose.MESH)
    await desk.join()  # the cause is gone: another start of the worker is judged as it is now
    desk.ahead = timedelta(hours=1, seconds=1)
    assert desk.revocations.in_force == []
    version = desk.revocations.version
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        noticing = group.create_task(desk.revocations.expiring(every_s=0.001))
        await desk.revocations.changed(version)
        noticing.cancel()


@pytest.mark.attack("B18")
async def test_a_member_that_fell_hears_it_itself(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join()
    desk.platform.tcb_status = "Revoked"
    desk.publish(desk.platform)
    review = await desk.standing.review("collateral")
    assert [fallen.instance for fallen in review.fallen] == [evidence.claims.instance]
    (event,) = await listened(desk, worker_peer(evidence), issued.attestation_result)
    assert [each.value for each in event.revocations] == [evidence.claims.instance]


async def test_a_member_goes_also_when_the_disk_is_full(desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.join()
    monkeypatch.setattr(desk.revocations, "_store", Broken())
    (member,) = desk.attested.members
    await desk.revoker.expel(member, "no longer believed", by="verifier")
    assert desk.attested.members == []


class Broken:
    """A store that keeps nothing."""

    def load(self) -> list[Ruling]:
        return []

    def save(self, rulings: Sequence[Ruling]) -> None:
        raise Unavailable("the disk is full")


async def test_what_cannot_be_kept_is_not_in_force() -> None:
    held = Revocations(Broken(), now=lambda: NOW)
    name = Name(Kind.INSTANCE, INSTANCE)
    with pytest.raises(Unavailable):
        await held.add(Revocation(name=name, reason="", by=BY, revoked_at=NOW))
    held.check((name,))
    assert held.version == 1


async def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch, desk: VerifierDesk) -> None:
    monkeypatch.setattr(module, "MAX_REVOCATIONS", 2)
    for number in range(2):
        await desk.revoker.revoke(Name(Kind.INSTANCE, f"{number:032x}"), reason="", by=BY)
    with pytest.raises(Overloaded):
        await desk.revoker.revoke(Name(Kind.INSTANCE, "f" * 32), reason="", by=BY)


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b'[{"kind": "model"}]', b'[{"kind": "instance", "value": "x"}]'])
def test_a_damaged_store_stops_the_verifier(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "revocations.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(NotReady, match="nothing says what is revoked"):
        RevocationFile(path).load()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.MEASUREMENT, ""),
        (Kind.MEASUREMENT, "ab" * 31),
        (Kind.MEASUREMENT, "AB" * 32),
        (Kind.PLATFORM, "any"),
        (Kind.SIGNER, "*"),
        (Kind.INSTANCE, "ab" * 32),
    ],
)
def test_a_name_that_is_none(kind: Kind, value: str) -> None:
    with pytest.raises(InvalidRequest, match="hex digits"):
        Name.read(kind, value)


def test_a_reason_is_short_and_printable() -> None:
    for reason in ("x" * 257, "a\nb", "\x1b[31m"):
        with pytest.raises(InvalidRequest):
            Revocation(name=Name(Kind.INSTANCE, INSTANCE), reason=reason, by=BY, revoked_at=NOW)


@pytest.mark.parametrize("number", [0, 5, -1])
def test_a_kind_that_is_none(number: int) -> None:
    with pytest.raises(InvalidRequest):
        kind_of(number)


def test_a_worker_is_named_by_what_its_result_says() -> None:
    names = names_of(good_result())
    assert names[0] == (Kind.MEASUREMENT, MRENCLAVE)
    assert [name.kind for name in names] == KINDS
    assert revoked(names, {Name(Kind.SIGNER, "b2" * 32)}) == (Kind.SIGNER, "b2" * 32)
    assert revoked(names, {Name(Kind.PLATFORM, MRENCLAVE)}) is None
    assert names_told(INSTANCE, "no token") == ((Kind.INSTANCE, INSTANCE),)


async def listened(desk: VerifierDesk, peer: PeerIdentity, token: str = "", count: int = 1) -> list[pb.TrustEvent]:
    events = desk.trust_watch().events(peer, token, sign_of_life_s=0.001)
    found = [await anext(events) for _ in range(count)]
    await events.aclose()
    return found


async def test_watchers_hear_everything_and_then_signs_of_life(desk: VerifierDesk) -> None:
    gateway = PeerIdentity("spiffe://demo.cloister.internal/gateway/main", "demo", "gateway", "main", b"", 0.0)
    await desk.revoker.revoke(Name(Kind.INSTANCE, INSTANCE), reason="private", by=BY)
    first, second = await listened(desk, gateway, count=2)
    assert (first.sequence, first.listed, second.sequence, second.listed) == (1, True, 2, False)
    (told,) = first.revocations
    assert (told.kind, told.value, told.reason, told.by) == (pb.REVOCATION_KIND_INSTANCE, INSTANCE, "", "")


async def test_a_worker_hears_of_itself_only(desk: VerifierDesk) -> None:
    evidence, issued = await desk.join()
    peer, token = worker_peer(evidence), issued.attestation_result
    await desk.revoker.revoke(Name(Kind.MEASUREMENT, "0" * 64), reason="", by=BY)
    assert not (await listened(desk, peer, token))[0].revocations
    name = named(desk, Kind.MEASUREMENT)
    await desk.revoker.revoke(name, reason="", by=BY)
    assert [each.value for each in (await listened(desk, peer, token))[0].revocations] == [name.value]
    assert not (await listened(desk, peer))[0].revocations  # one that shows nothing hears of its instance
    await desk.revoker.revoke(Name(Kind.INSTANCE, peer.name), reason="", by=BY)
    assert len((await listened(desk, peer))[0].revocations) == 1


async def test_a_worker_shows_its_own_result(desk: VerifierDesk) -> None:
    evidence, _ = await desk.join()
    _, others = await desk.join()
    release = await desk.again(evidence, Purpose.KEY_RELEASE)
    for token in (others.attestation_result, release.attestation_result, "x.y.z"):
        with pytest.raises(EvidenceRejected):
            await listened(desk, worker_peer(evidence), token)
