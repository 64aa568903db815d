"""Key pairs in turn: what is sealed to the old one opens for a while, and then nobody can open it (attacks G16)."""

from __future__ import annotations

import gc
import weakref

import pytest

from cloister.api.v1.seal_pb2 import SealedRequest
from cloister.errors import CloisterError, NotReady, SealBroken, Unavailable
from cloister.seal.hpke import X25519, KeyPair
from cloister.seal.session_keys import SEAL_VERSION
from fakes.sealed import ANSWER, FakeClient, FakeWorker

SECOND = "ear-2"


def worker_of(version: int = SEAL_VERSION) -> FakeWorker:
    return FakeWorker(seal_version=version)


def refusal(worker: FakeWorker, sealed: bytes, error: type[CloisterError]) -> str:
    with pytest.raises(error) as refused:
        worker.open(sealed)
    return refused.value.reason


@pytest.mark.attack("J08")
@pytest.mark.parametrize("version", [1, SEAL_VERSION])
def test_in_the_overlap_what_is_sealed_to_either_key_opens(version: int) -> None:
    client, late, worker = FakeClient(), FakeClient(), worker_of(version)
    client.ask(worker)
    before, pending = client.seal(worker)
    first, _ = late.seal(worker)
    worker.rotate(SECOND)
    opened = worker.open(before)
    assert pending.open(opened.respond(ANSWER)) == ANSWER
    assert opened.ear_id == "ear-1"
    assert worker.open(first).ear_id == "ear-1"
    after, pending = client.seal(worker)
    opened = worker.open(after)
    assert pending.open(opened.respond(ANSWER)) == ANSWER
    assert opened.ear_id == SECOND


@pytest.mark.attack("G16")
def test_in_the_overlap_a_request_of_either_epoch_opens_once() -> None:
    client, worker = FakeClient(), worker_of()
    sealed = [client.seal(worker)[0]]
    worker.open(sealed[0])
    worker.rotate(SECOND)
    sealed.append(client.seal(worker)[0])
    worker.open(sealed[1])
    for request in sealed:
        assert refusal(worker, request, SealBroken) == "request.replayed"


@pytest.mark.attack("G16")
@pytest.mark.parametrize(("version", "reason"), [(1, "seal.broken"), (SEAL_VERSION, "seal.stale")])
def test_after_its_epoch_a_recorded_request_does_not_open(version: int, reason: str) -> None:
    client, worker = FakeClient(), worker_of(version)
    answered, _ = client.seal(worker)
    unheard, _ = client.seal(worker)
    worker.open(answered)
    old = worker.rotate(SECOND)
    worker.sessions.epochs.drop(old.key_id)
    for recorded in (answered, unheard):
        assert refusal(worker, recorded, SealBroken if version == 1 else NotReady) == reason


@pytest.mark.attack("G16")
def test_a_session_goes_with_its_epoch() -> None:
    client, worker = FakeClient(), worker_of()
    client.ask(worker)
    known, _ = client.seal(worker)
    assert not SealedRequest.FromString(known).recipients[0].opening
    old = worker.rotate(SECOND)
    worker.sessions.epochs.drop(old.key_id)
    assert refusal(worker, known, NotReady) == "session.unknown"


@pytest.mark.attack("G16")
def test_nobody_holds_a_key_that_was_dropped() -> None:
    class Watched(KeyPair):
        """One that can be watched."""

    client, worker = FakeClient(), worker_of()
    watched = Watched(X25519, *parts(KeyPair.generate(X25519)))
    worker.rotate(SECOND, watched)
    client.ask(worker)
    gone = weakref.ref(watched)
    key_id = watched.key_id
    worker.rotate("ear-3")
    del watched
    worker.sessions.epochs.drop(key_id)
    gc.collect()
    assert gone() is None


def parts(pair: KeyPair) -> tuple[object, bytes]:
    return pair._private, pair.public


def test_a_key_that_is_not_attested_yet_puts_off_what_is_sealed_to_it() -> None:
    client, worker = FakeClient(), worker_of()
    expected = KeyPair.generate(X25519)
    worker.sessions.epochs.expect(expected)
    worker.sessions.epochs.expect(expected)
    worker.pair = expected
    sealed, pending = client.seal(worker)
    assert refusal(worker, sealed, Unavailable) == "key.unsettled"
    worker.sessions.epochs.attest(expected.key_id, SECOND)
    opened = worker.open(sealed)
    assert opened.ear_id == SECOND
    assert pending.open(opened.respond(ANSWER)) == ANSWER


def test_a_newer_attestation_result_for_the_same_key_is_the_one_that_is_named() -> None:
    client, worker = FakeClient(), worker_of()
    worker.sessions.epochs.attest(worker.pair.key_id, SECOND)
    assert worker.open(client.seal(worker)[0]).ear_id == SECOND


def test_a_key_id_rides_with_an_opening_and_only_to_who_knows_what_it_is() -> None:
    client, new, old = FakeClient(), worker_of(), worker_of(1)
    sealed = SealedRequest.FromString(client.seal(new, old)[0])
    assert [recipient.key_id for recipient in sealed.recipients] == [new.pair.key_id, b""]
    client.ask(new)
    assert not SealedRequest.FromString(client.seal(new)[0]).recipients[0].key_id


def test_the_name_of_another_key_opens_nothing() -> None:
    client, worker = FakeClient(), worker_of()
    sealed, _ = client.seal(worker)
    worker.rotate(SECOND)
    message = SealedRequest.FromString(sealed)
    for key_id, error in ((worker.pair.key_id, SealBroken), (b"", SealBroken), (b"unknown!", NotReady)):
        message.recipients[0].key_id = key_id
        with pytest.raises(error):
            worker.open(message.SerializeToString())
    assert worker.open(sealed)
