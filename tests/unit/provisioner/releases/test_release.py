"""The release flow: wholly good, then broken in one thing, with the reason that the record must show."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.ear import SigningKey
from cloister.errors import (
    ChallengeExpired,
    KeyRefused,
    NotReady,
    Overloaded,
    SealBroken,
    Unavailable,
)
from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.database import NAME
from cloister.provisioner.ledger.tables import HELD, Key
from cloister.provisioner.releases.release import REFUSED, ReleaseRequest
from cloister.provisioner.vaults.threads import VaultThreads
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.manifest import sign_policy
from fakes.call_counts import Here, counted_calls
from fakes.release_desk import MODEL_KEY, ReleaseDesk, WorkerKeys, release_desk, signed_manifest
from fakes.results import CLUSTER, INSTANCE, MODEL, WORKER, good_policy


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ReleaseDesk]:
    with release_desk(tmp_path) as made:
        yield made


async def refused(desk: ReleaseDesk, request: ReleaseRequest, **peer: Any) -> str:
    """The reason in the record; the worker's is always the same."""
    before = len(desk.entries())
    with pytest.raises(KeyRefused) as heard:
        await desk.releaser.release(request, desk.worker.peer(**peer))
    assert (str(heard.value), heard.value.reason) == (REFUSED, "key.refused")
    entries = desk.entries()
    assert len(entries) == before + 1
    assert (entries[-1]["event"], entries[-1]["peer"]) == ("key.refused", peer.get("spiffe_id", WORKER))
    reason: str = entries[-1]["reason"]
    return reason


async def test_a_good_worker_gets_the_key(desk: ReleaseDesk) -> None:
    token = desk.token(ear_id="ear-7")
    released = await desk.releaser.release(desk.request(token=token), desk.worker.peer())
    grant = desk.opened(released, "ear-7")
    assert grant.model_key == MODEL_KEY
    assert grant.lease_s == 600
    entry = desk.entries()[-1]
    assert (entry["event"], entry["model"], entry["version"]) == ("key.released", MODEL, 2)
    assert (entry["instance"], entry["lease_id"], entry["ear_id"]) == (INSTANCE, released.lease_id, "ear-7")
    assert (entry["lease_s"], entry["simulated"]) == (600, False)
    assert entry["policy_digest"] == grant.policy_digest.hex()


async def test_the_grant_opens_with_the_default_suite_too(desk: ReleaseDesk) -> None:
    desk.worker.hpke = KeyPair.generate(XWING)
    released = await desk.releaser.release(desk.request(token=desk.token(ear_id="e")), desk.worker.peer())
    assert desk.opened(released, "e").model_key == MODEL_KEY


@pytest.mark.attack("F03")
@pytest.mark.attack("D07")
async def test_another_worker_cannot_open_the_grant(desk: ReleaseDesk) -> None:
    released = await desk.releaser.release(desk.request(token=desk.token(ear_id="e")), desk.worker.peer())
    with pytest.raises(SealBroken):
        desk.opened(released, "e", pair=WorkerKeys().hpke)
    with pytest.raises(SealBroken):
        desk.opened(released, "another result")
    with pytest.raises(SealBroken):
        desk.opened(replace(released, lease_id="0" * 32), "e")


async def test_neither_record_nor_refusal_holds_a_secret(desk: ReleaseDesk) -> None:
    request = desk.request()
    await desk.releaser.release(request, desk.worker.peer())
    await refused(desk, desk.request(model="other"))
    written = b"".join(entry.record for entry in desk.ledger.log.records())
    for secret in (MODEL_KEY.reveal(), request.attestation_result.encode(), request.nonce, request.proof):
        assert secret not in written
        assert secret.hex().encode() not in written
    assert request.attestation_result not in repr(request)


# The nonce


async def test_a_nonce_serves_once(desk: ReleaseDesk) -> None:
    nonce = desk.nonce()
    await desk.releaser.release(desk.request(nonce=nonce), desk.worker.peer())
    with pytest.raises(ChallengeExpired):
        await desk.releaser.release(desk.request(nonce=nonce), desk.worker.peer())
    assert desk.entries()[-1]["reason"] == "challenge.expired"


async def test_a_refused_request_has_used_its_nonce_up(desk: ReleaseDesk) -> None:
    nonce = desk.nonce()
    assert await refused(desk, desk.request(nonce=nonce, model="other")) == "model.unknown"
    with pytest.raises(ChallengeExpired):
        await desk.releaser.release(desk.request(nonce=nonce), desk.worker.peer())


async def test_a_nonce_ends_with_its_time(desk: ReleaseDesk) -> None:
    request = desk.request()
    desk.clock.pass_s(61)
    with pytest.raises(ChallengeExpired):
        await desk.releaser.release(request, desk.worker.peer())


async def test_a_nonce_of_another_worker_is_refused(desk: ReleaseDesk) -> None:
    other = f"spiffe://{CLUSTER}/worker/{'f' * 32}"
    with pytest.raises(ChallengeExpired):
        await desk.releaser.release(desk.request(), desk.worker.peer(spiffe_id=other))


async def test_of_200_concurrent_uses_of_a_nonce_one_succeeds(desk: ReleaseDesk) -> None:
    nonce = desk.nonce()
    requests = [desk.request(nonce=nonce) for _ in range(200)]
    assert await _successes(desk, requests) == 1


# The Attestation Result


@pytest.mark.attack("E06")
async def test_of_50_concurrent_uses_of_a_result_one_succeeds(desk: ReleaseDesk) -> None:
    token = desk.token()
    requests = [desk.request(token=token) for _ in range(50)]
    assert await _successes(desk, requests) == 1
    reasons = [entry.get("reason") for entry in desk.entries() if entry["event"] == "key.refused"]
    assert reasons == ["token.used"] * 49


async def test_a_result_from_before_a_restart_is_refused(desk: ReleaseDesk) -> None:
    token = desk.token()
    await desk.releaser.release(desk.request(token=token), desk.worker.peer())
    desk.now += timedelta(seconds=1)
    desk.releaser = desk.new_releaser(started_at=desk.now)
    with pytest.raises(NotReady):  # not for good: the worker keeps its lease, and attests again
        await desk.releaser.release(desk.request(token=token), desk.worker.peer())
    assert desk.entries()[-1]["reason"] == "token.before_start"
    await desk.releaser.release(desk.request(), desk.worker.peer())


@pytest.mark.attack("E03")
@pytest.mark.attack("E04")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"audience": "mesh"}, "token.audience"),
        ({"issuer": f"spiffe://{CLUSTER}/verifier/other"}, "token.issuer"),
        ({"expires_at": timedelta(minutes=5, seconds=1)}, "token.too_long"),
        ({"issued_at": timedelta(seconds=31), "expires_at": timedelta(minutes=5)}, "token.not_yet"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_result_that_is_not_for_this_moment_and_service(
    desk: ReleaseDesk, change: dict[str, Any], reason: str
) -> None:
    fields = {name: desk.now + value if isinstance(value, timedelta) else value for name, value in change.items()}
    assert await refused(desk, desk.request(token=desk.token(**fields))) == reason


@pytest.mark.attack("E03")
async def test_an_expired_result_is_refused(desk: ReleaseDesk) -> None:
    token = desk.token()
    desk.now += timedelta(minutes=5, seconds=31)
    assert await refused(desk, desk.request(token=token)) == "token.expired"


@pytest.mark.attack("I03")
async def test_a_result_that_expired_is_not_good_again_where_the_clock_is_set_back(desk: ReleaseDesk) -> None:
    """As a worker would show that was stopped with a result that it never used, and let go on by the same host."""
    kept = desk.token()
    desk.now += timedelta(minutes=20)
    await desk.releaser.release(desk.request(), desk.worker.peer())
    desk.now -= timedelta(minutes=20)
    with pytest.raises(NotReady):
        await desk.releaser.release(desk.request(token=kept), desk.worker.peer())
    assert desk.entries()[-1]["reason"] == "clock.set_back"
    desk.now += timedelta(minutes=20)
    await desk.releaser.release(desk.request(), desk.worker.peer())


async def test_a_result_by_another_verifier_is_refused(desk: ReleaseDesk) -> None:
    assert await refused(desk, desk.request(token=desk.token(key=SigningKey.generate()))) == "token.key_unknown"


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 20_000, "é.é.é"])
async def test_bytes_that_are_no_result_are_refused(desk: ReleaseDesk, token: str) -> None:
    assert await refused(desk, desk.request(token=token)) == "token.malformed"


@pytest.mark.attack("E08")
async def test_a_new_verifier_key_is_believed_and_a_retired_one_is_not(desk: ReleaseDesk) -> None:
    rotated = desk.next_verifier
    desk.publish_keys(desk.verifier, rotated)
    await desk.releaser.release(desk.request(token=desk.token(key=rotated)), desk.worker.peer())
    desk.publish_keys(rotated)
    assert await refused(desk, desk.request()) == "token.key_unknown"


@pytest.mark.attack("E09")
async def test_a_key_set_swapped_on_disk_is_useless(desk: ReleaseDesk) -> None:
    thief = SigningKey.generate()
    desk.publish_keys(thief)
    assert await refused(desk, desk.request(token=desk.token(key=thief))) == "token.key_unknown"
    await desk.releaser.release(desk.request(), desk.worker.peer())
    desk.publish_keys(desk.verifier, thief)
    assert await refused(desk, desk.request(token=desk.token(key=thief))) == "token.key_unknown"
    await desk.releaser.release(desk.request(), desk.worker.peer())


async def test_a_broken_key_file_changes_nothing(desk: ReleaseDesk) -> None:
    desk.keys_path.write_text("not a key set")
    await desk.releaser.release(desk.request(), desk.worker.peer())


# Whose it is


@pytest.mark.attack("D07")
@pytest.mark.attack("E05")
async def test_a_result_presented_over_another_tls_key_is_refused(desk: ReleaseDesk) -> None:
    thief = WorkerKeys()
    nonce = desk.nonces.issue(peer=WORKER, tls_spki_sha256=thief.tls_spki_sha256)
    request = desk.request(nonce=nonce)
    assert await refused(desk, request, spki_sha256=thief.tls_spki_sha256) == "peer.other"


@pytest.mark.attack("E05")
async def test_a_result_presented_by_another_identity_is_refused(desk: ReleaseDesk) -> None:
    other = f"spiffe://{CLUSTER}/worker/{'f' * 32}"
    nonce = desk.nonces.issue(peer=other, tls_spki_sha256=desk.worker.tls_spki_sha256)
    assert await refused(desk, desk.request(nonce=nonce), spiffe_id=other) == "peer.other"


@pytest.mark.attack("F01")
@pytest.mark.attack("D07")
@pytest.mark.attack("E05")
async def test_who_lacks_the_receipt_key_is_refused(desk: ReleaseDesk) -> None:
    assert await refused(desk, desk.request(signer=Ed25519PrivateKey.generate())) == "proof.invalid"


@pytest.mark.attack("E05")
@pytest.mark.parametrize("field", ["nonce", "token", "model", "version"])
async def test_a_proof_holds_for_its_own_request_only(desk: ReleaseDesk, field: str) -> None:
    good = desk.request()
    changed: dict[str, Any] = {
        "nonce": {"nonce": desk.nonce()},
        "token": {"attestation_result": desk.token()},
        "model": {"model_name": "other"},
        "version": {"model_version": 2},
    }[field]
    assert await refused(desk, replace(good, **changed)) == "proof.invalid"


async def test_a_proof_that_fails_does_not_use_the_result_up(desk: ReleaseDesk) -> None:
    token = desk.token()
    await refused(desk, desk.request(token=token, signer=Ed25519PrivateKey.generate()))
    await desk.releaser.release(desk.request(token=token), desk.worker.peer())


# Model and policy


@pytest.mark.attack("F02")
async def test_unknown_and_forbidden_models_look_the_same(desk: ReleaseDesk) -> None:
    desk.threads = VaultThreads(Here(1), most=9)
    desk.releaser = desk.new_releaser()
    desk.register(name="forbidden")
    desk.register(name="closed")
    desk.allow(model_name="closed", mrenclave=["e5" * 32], signers=[])
    assert await refused(desk, desk.request(model="unknown")) == "model.unknown"
    assert await refused(desk, desk.request(model="forbidden")) == "policy.missing"
    assert await refused(desk, desk.request(model="closed")) == "measurement.not_allowed"


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"simulated": True, "hardware": 96}, "hardware.simulated"),
        ({"tcb_status": "OutOfDate"}, "tcb.not_allowed"),
        ({"mrenclave": "e5" * 32, "isvsvn": 2}, "measurement.not_allowed"),
        ({"debug": True}, "enclave.debug"),
        ({"cluster": "other.test", "spiffe_id": f"spiffe://other.test/worker/{INSTANCE}"}, "peer.other"),
        ({"role": "gateway", "spiffe_id": f"spiffe://{CLUSTER}/gateway/{INSTANCE}"}, "peer.other"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_rules_are_kept(desk: ReleaseDesk, result: dict[str, Any], reason: str) -> None:
    assert await refused(desk, desk.request(token=desk.token(**result))) == reason


async def test_the_record_names_every_rule_that_objected_and_the_worker_hears_of_none(desk: ReleaseDesk) -> None:
    token = desk.token(tcb_status="OutOfDate", mrenclave="e5" * 32, isvsvn=2)
    assert await refused(desk, desk.request(token=token)) == "tcb.not_allowed"
    tcb, code = desk.entries()[-1]["objections"]
    assert tcb == "tcb: tcb.not_allowed; demanded SWHardeningNeeded, UpToDate; found OutOfDate"
    assert code.startswith("code: measurement.not_allowed; demanded sgx a1a1")
    assert await refused(desk, desk.request(token="no.such.token")) == "token.malformed"
    assert "objections" not in desk.entries()[-1]


@pytest.mark.attack("F02")
async def test_a_refusal_takes_the_same_steps_whether_or_not_there_is_such_a_model(desk: ReleaseDesk) -> None:
    """Counted, not timed: signatures and rules, which cost what can be measured from outside."""
    desk.threads = VaultThreads(Here(1), most=9)
    desk.releaser = desk.new_releaser()
    desk.register(name="forbidden")
    desk.register(name="closed")
    desk.allow(model_name="closed", mrenclave=["e5" * 32], signers=[])
    steps: dict[str, Counter[str]] = {}
    for name in ("unknown", "forbidden", "closed", "unknown", "forbidden", "closed"):  # the first time all is new
        request = desk.request(model=name)
        with counted_calls() as steps[name], pytest.raises(KeyRefused):
            await desk.releaser.release(request, desk.worker.peer())
    dear = ("cloister.ear.", "cloister.kit.", "cloister.seal.manifest.", "cloister.seal.release_policy.")
    taken = {name: {step: n for step, n in steps[name].items() if step.startswith(dear)} for name in steps}
    assert taken["closed"]["cloister.kit.release_rules.judged"] == 1
    assert taken["unknown"] == taken["forbidden"] == taken["closed"]


async def test_todays_policy_decides(desk: ReleaseDesk) -> None:
    await desk.releaser.release(desk.request(), desk.worker.peer())
    desk.allow(version=2, mrenclave=["e5" * 32], signers=[])
    assert await refused(desk, desk.request()) == "measurement.not_allowed"


@pytest.mark.attack("F05")
async def test_an_older_version_is_not_released(desk: ReleaseDesk) -> None:
    desk.register(version=3)
    desk.allow(version=2, min_model_version=3)
    released = await desk.releaser.release(desk.request(), desk.worker.peer())
    assert released.model.version == 3
    assert await refused(desk, desk.request(version=2)) == "model.version_too_old"
    assert await refused(desk, desk.request(version=4)) == "model.unknown"


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE model_version SET wrapped_key = zeroblob(61)",
        "UPDATE model_version SET manifest = CAST(manifest || ' ' AS BLOB)",
        "UPDATE model_version SET signature = zeroblob(64)",
        "UPDATE model_version SET version = 3",
        "UPDATE model SET owner_key = zeroblob(32)",
        "UPDATE policy SET policy = CAST(policy || 'x' AS BLOB)",
        "UPDATE policy SET signature = zeroblob(64)",
        "UPDATE model_version SET wrapped_key = (SELECT wrapped_key FROM model_version WHERE name = 'second')"
        " WHERE name = 'iris'",
        "UPDATE policy SET (policy, signature) = (SELECT policy, signature FROM policy WHERE name = 'second')"
        " WHERE name = 'iris'",
    ],
)
async def test_an_edited_store_releases_nothing(desk: ReleaseDesk, edit: str) -> None:
    desk.register(name="second")
    desk.allow(model_name="second")
    connection = sqlite3.connect(desk.folder / NAME, isolation_level=None)
    connection.execute(edit)
    connection.close()
    assert await refused(desk, desk.request()) == "store.altered"


async def test_an_owner_swapped_in_the_store_gets_nothing(desk: ReleaseDesk) -> None:
    """Whoever can write the disk signs manifest and policy anew with a key of their own; the wrap knows the owner."""
    thief = Ed25519PrivateKey.generate()
    desk.owner = thief
    connection = sqlite3.connect(desk.folder / NAME, isolation_level=None)
    manifest = signed_manifest(thief)
    policy = good_policy(mrenclave=["a1" * 32]).SerializeToString()
    connection.execute("UPDATE model SET owner_key = ?", (manifest.public_key,))
    connection.execute("UPDATE model_version SET manifest = ?, signature = ?", (manifest.manifest, manifest.signature))
    connection.execute("UPDATE policy SET policy = ?, signature = ?", (policy, sign_policy(policy, thief)))
    connection.close()
    assert await refused(desk, desk.request()) == "store.altered"


async def test_a_policy_of_another_mesh_releases_nothing(desk: ReleaseDesk) -> None:
    """Signed by the owner, for a mesh with other workers, and carried over by whoever can write the disk."""
    policy = good_policy(cluster="other.cloister.internal").SerializeToString()
    connection = sqlite3.connect(desk.folder / NAME, isolation_level=None)
    connection.execute("UPDATE policy SET policy = ?, signature = ?", (policy, sign_policy(policy, desk.owner)))
    connection.close()
    assert await refused(desk, desk.request()) == "store.altered"


# What may fail


@pytest.mark.attack("H07")
async def test_no_record_no_release(desk: ReleaseDesk) -> None:
    request = desk.request()
    connection = sqlite3.connect(desk.folder / NAME, isolation_level=None)
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON line BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(Unavailable):
        await desk.releaser.release(request, desk.worker.peer())
    connection.execute("DROP TRIGGER full")
    connection.close()
    await desk.releaser.release(desk.request(), desk.worker.peer())


async def test_a_vault_that_is_down_is_told_as_such(desk: ReleaseDesk) -> None:
    class Down:
        def unwrap(self, record: object, wrapped: bytes) -> None:
            raise Unavailable("the vault does not answer")

    desk.releaser = desk.new_releaser(keyring=Down())
    with pytest.raises(Unavailable):
        await desk.releaser.release(desk.request(), desk.worker.peer())
    assert desk.entries()[-1]["event"] != "key.released"


@pytest.mark.attack("F14")
async def test_who_asks_too_often_waits(desk: ReleaseDesk) -> None:
    desk.releaser = desk.new_releaser(per_minute=2)
    for _ in range(2):
        await desk.releaser.release(desk.request(), desk.worker.peer())
    with pytest.raises(Overloaded):
        await desk.releaser.release(desk.request(), desk.worker.peer())
    assert desk.entries()[-1]["reason"] == "release.too_often"
    desk.clock.pass_s(30)
    await desk.releaser.release(desk.request(), desk.worker.peer())


@pytest.mark.attack("F14")
async def test_a_model_is_released_as_often_in_an_hour_as_its_owner_allows(desk: ReleaseDesk) -> None:
    desk.allow(version=2, releases_per_hour=2)
    for _ in range(2):
        await desk.releaser.release(desk.request(), desk.worker.peer())
    with pytest.raises(Overloaded) as heard:
        await desk.releaser.release(desk.request(), desk.worker.peer())
    assert (heard.value.reason, heard.value.retry_after_s) == ("rate.exceeded", 3600)
    assert desk.entries()[-1]["reason"] == "rate.exceeded"
    counted = desk.metrics.registry.get_sample_value
    labels = {"outcome": "refused", "reason": "rate.exceeded", "simulated": "false"}
    assert counted("cloister_keys_total", labels) == 1
    assert await refused(desk, desk.request(token=desk.token(tcb_status="OutOfDate"))) == "tcb.not_allowed"
    desk.now += timedelta(minutes=61)
    await desk.releaser.release(desk.request(), desk.worker.peer())


@pytest.mark.attack("F14")
async def test_a_restart_forgets_no_release(desk: ReleaseDesk) -> None:
    desk.now = datetime.now(UTC).replace(microsecond=0)
    await desk.releaser.release(desk.request(), desk.worker.peer())
    desk.allow(version=2, releases_per_hour=1)
    desk.releaser = desk.new_releaser()
    with pytest.raises(Overloaded):
        await desk.releaser.release(desk.request(), desk.worker.peer())


@pytest.mark.attack("F14")
async def test_of_a_crowd_as_many_get_a_key_as_the_owner_allows(desk: ReleaseDesk) -> None:
    desk.allow(version=2, releases_per_hour=5)
    assert await _successes(desk, [desk.request() for _ in range(20)]) == 5


async def test_outcomes_are_counted(desk: ReleaseDesk) -> None:
    await desk.releaser.release(desk.request(), desk.worker.peer())
    await refused(desk, desk.request(model="other"))
    counted = desk.metrics.registry.get_sample_value
    assert counted("cloister_keys_total", {"outcome": "released", "reason": "", "simulated": "false"}) == 1
    assert counted("cloister_keys_total", {"outcome": "refused", "reason": "model.unknown", "simulated": "false"}) == 1


async def _successes(desk: ReleaseDesk, requests: list[ReleaseRequest]) -> int:
    async def use(request: ReleaseRequest) -> bool:
        try:
            await desk.releaser.release(request, desk.worker.peer())
        except (ChallengeExpired, KeyRefused, Overloaded):
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use(request)) for request in requests]
    return sum(task.result() for task in tasks)


@pytest.mark.attack("F09")
async def test_what_was_decided_before_a_model_was_held_is_not_released_after(desk: ReleaseDesk) -> None:
    """By a provisioner that a slow vault kept while its log was resumed: what was lost may have been stricter."""
    unwrap = desk.keyring.unwrap

    def hold(change: Change) -> int:
        change.put(HELD, Key(MODEL), 2)
        return change.line("model.held", model=MODEL, generation=2)

    def unwrapped(record: Any, wrapped: Any) -> Any:
        if not desk.registry.held():
            desk.ledger.change(hold)
        return unwrap(record, wrapped)

    desk.keyring.unwrap = unwrapped  # type: ignore[method-assign]
    with pytest.raises(NotReady) as heard:
        await desk.releaser.release(desk.request(), desk.worker.peer())
    assert heard.value.reason == "terms.changed"
    assert "key.released" not in [line["event"] for line in desk.entries()]
    assert await refused(desk, desk.request()) == "model.held"
