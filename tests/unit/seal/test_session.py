from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloister.api.v1.seal_pb2 import OpenedResponse, RequestHeader, SealedRequest, SealedResponse
from cloister.api.v1.worker_pb2 import Failure
from cloister.errors import CloisterError, InvalidRequest, NotReady, Overloaded, SealBroken
from cloister.seal import padding, session_client, session_keys
from cloister.seal.hpke import XWING
from cloister.seal.keys import Secret
from cloister.seal.session import ClientSessions, WorkerSessions
from fakes.sealed import ANSWER, CLUSTER, DIGEST, NOW, FakeClient, FakeWorker, flipped, unhurried

_FIXED = "the sealed message could not be opened"


def _refused(error: type[CloisterError], reason: str, worker: FakeWorker, sealed: bytes) -> None:
    with pytest.raises(error) as raised:
        worker.open(sealed)
    assert raised.value.reason == reason
    if error is SealBroken:
        assert str(raised.value) == _FIXED


def _parsed(sealed: bytes) -> SealedRequest:
    return SealedRequest.FromString(sealed)


@pytest.mark.parametrize("suite", ["xwing", "x25519"])
@pytest.mark.parametrize("request_bytes", [b"", b"r", bytes(70_000)])
def test_a_request_and_its_answer(suite: str, request_bytes: bytes) -> None:
    client, worker = FakeClient(), FakeWorker(suite)
    sealed, pending = client.seal(worker, request=request_bytes)
    opened = worker.open(sealed)
    assert opened.request == request_bytes
    assert opened.request_id == pending.request_id
    assert (opened.model_name, opened.model_version, opened.model_digest) == ("resnet", "1", DIGEST)
    assert opened.not_after == NOW + timedelta(seconds=30)
    assert pending.open(opened.respond(ANSWER)) == ANSWER
    assert "request=" not in repr(opened)


def test_a_failure_is_content_too() -> None:
    client, worker = FakeClient(), FakeWorker()
    sealed, pending = client.seal(worker)
    failure = OpenedResponse(failure=Failure(error="InvalidRequest", reason="request.invalid", message="tensor x"))
    answer = worker.open(sealed).respond(failure)
    assert b"tensor x" not in answer
    assert pending.open(answer) == failure


def test_openings_ride_along_until_answered() -> None:
    client, worker, silent = FakeClient(), FakeWorker(), FakeWorker()
    sealed, pending = client.seal(worker, silent)
    again, _ = client.seal(worker, silent)
    assert all(recipient.opening for recipient in _parsed(again).recipients)
    pending.open(worker.open(sealed).respond(ANSWER))
    openings = {
        recipient.instance: recipient.opening for recipient in _parsed(client.seal(worker, silent)[0]).recipients
    }
    assert not openings[worker.instance]
    assert openings[silent.instance]
    assert worker.open(client.seal(worker)[0]).request == b"a request"


def test_any_of_the_recipients_may_answer() -> None:
    client, workers = FakeClient(), [FakeWorker(suite) for suite in ("xwing", "x25519", "xwing")]
    for worker in workers:
        sealed, pending = client.seal(*workers)
        assert pending.open(worker.open(sealed).respond(ANSWER)) == ANSWER


def test_who_is_not_a_recipient_does_not_open() -> None:
    client, worker, stranger = FakeClient(), FakeWorker(), FakeWorker()
    sealed, _ = client.seal(worker)
    _refused(SealBroken, "seal.broken", stranger, sealed)
    stranger.sessions = WorkerSessions(stranger.pair, CLUSTER, worker.instance)
    _refused(SealBroken, "seal.broken", stranger, sealed)


@pytest.mark.attack("D09")
def test_a_worker_of_another_cluster_does_not_open() -> None:
    client, worker = FakeClient(), FakeWorker(cluster="other.internal")
    _refused(SealBroken, "seal.broken", worker, client.seal(worker)[0])


def _exchange() -> tuple[FakeWorker, bytes, FakeWorker, bytes]:
    """A request with opening, and one without, each with a worker that has not seen it."""
    client, worker, other = FakeClient(), FakeWorker(), FakeWorker()
    first, _ = client.seal(worker, other)
    known = FakeWorker()
    client.ask(known)
    return worker, first, known, client.seal(known, request=b"a second request")[0]


@unhurried
@given(st.data())
def test_no_changed_bit_of_a_request_opens(data: st.DataObject) -> None:
    worker, first, known, second = _exchange()
    for opener, sealed in ((worker, first), (known, second)):
        bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
        for broken in (flipped(sealed, bit), sealed[: bit // 8], sealed + b"\x00", b"\x00" + sealed):
            with pytest.raises((SealBroken, NotReady)) as raised:
                opener.open(broken)
            # Another session id is a session nobody opened: the one thing that a gateway may know.
            assert raised.value.reason in ("seal.broken", "session.unknown")
        assert opener.open(sealed).request in (b"a request", b"a second request")


def test_the_whole_message_is_authenticated_for_every_recipient() -> None:
    """A gateway cannot strip, swap or add a recipient, nor hide bytes in fields of its own."""
    worker, first, _, _ = _exchange()
    message = _parsed(first)
    alone = SealedRequest(header=message.header, recipients=message.recipients[:1], ciphertext=message.ciphertext)
    swapped = SealedRequest(
        header=message.header, recipients=reversed(message.recipients), ciphertext=message.ciphertext
    )
    twice = SealedRequest(
        header=message.header, recipients=[message.recipients[0], *message.recipients], ciphertext=message.ciphertext
    )
    smuggled = b"\x0a" + bytes([len(message.header)]) + message.header + first
    for broken in (alone.SerializeToString(), swapped.SerializeToString(), twice.SerializeToString(), smuggled):
        _refused(SealBroken, "seal.broken", worker, broken)


@pytest.mark.parametrize("raw", [b"", b"\x1a\x00", b"\x1a\x10" + bytes(16), b"\x0a\x01\xff\x1a\x01x", bytes(1000)])
def test_what_was_never_sealed_does_not_open(raw: bytes) -> None:
    _refused(SealBroken, "seal.broken", FakeWorker(), raw)
    with pytest.raises(SealBroken):
        FakeClient().seal(FakeWorker())[1].open(raw)


@unhurried
@given(st.binary(max_size=300))
@example(b"\x12\x00")
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(SealBroken):
        FakeWorker().open(raw)


@unhurried
@given(st.data())
def test_no_changed_bit_of_an_answer_opens(data: st.DataObject) -> None:
    client, worker = FakeClient(), FakeWorker()
    sealed, pending = client.seal(worker)
    answer = worker.open(sealed).respond(ANSWER)
    bit = data.draw(st.integers(0, len(answer) * 8 - 1))
    for broken in (flipped(answer, bit), answer[: bit // 8], answer + b"\x00", b"\x0a\x00" + answer):
        with pytest.raises(SealBroken):
            pending.open(broken)
    assert pending.open(answer) == ANSWER


def test_answers_are_not_interchangeable() -> None:
    client, worker, other = FakeClient(), FakeWorker(), FakeWorker()
    first, first_pending = client.seal(worker, other)
    second, second_pending = client.seal(worker, other)
    first_answer, second_answer = (worker.open(sealed).respond(ANSWER) for sealed in (first, second))
    with pytest.raises(SealBroken):
        first_pending.open(second_answer)
    with pytest.raises(SealBroken):
        second_pending.open(first_answer)
    others = SealedResponse.FromString(other.open(first).respond(ANSWER))
    others.instance = worker.instance
    with pytest.raises(SealBroken):
        first_pending.open(others.SerializeToString())


def test_an_answer_in_clear_or_without_outcome_is_none() -> None:
    client, worker = FakeClient(), FakeWorker()
    sealed, pending = client.seal(worker)
    with pytest.raises(SealBroken):
        pending.open(ANSWER.SerializeToString())
    with pytest.raises(SealBroken):
        pending.open(worker.open(sealed).respond(OpenedResponse()))


def test_two_workers_answer_under_different_keys() -> None:
    client, workers = FakeClient(), (FakeWorker(), FakeWorker())
    sealed, _ = client.seal(*workers)
    ciphertexts = {SealedResponse.FromString(worker.open(sealed).respond(ANSWER)).ciphertext for worker in workers}
    assert len(ciphertexts) == 2


def test_a_request_is_answered_once() -> None:
    client, worker = FakeClient(), FakeWorker()
    opened = worker.open(client.seal(worker)[0])
    opened.respond(ANSWER)
    with pytest.raises(RuntimeError, match="once"):
        opened.respond(ANSWER)


def test_a_replay_is_refused_at_every_stage() -> None:
    client, worker = FakeClient(), FakeWorker()
    first, pending = client.seal(worker)
    opened = worker.open(first)
    _refused(SealBroken, "request.replayed", worker, first)
    pending.open(opened.respond(ANSWER))
    _refused(SealBroken, "request.replayed", worker, first)
    client.ask(worker)
    _refused(SealBroken, "request.replayed", worker, first)


def test_a_broken_copy_does_not_use_up_the_request() -> None:
    client, worker = FakeClient(), FakeWorker()
    sealed, _ = client.seal(worker)
    _refused(SealBroken, "seal.broken", worker, flipped(sealed, len(sealed) * 8 - 1))
    assert worker.open(sealed).request == b"a request"


def test_requests_may_overtake_each_other_within_the_window() -> None:
    client, worker = FakeClient(), FakeWorker()
    late, *others = (client.seal(worker)[0] for _ in range(1024))
    for sealed in reversed(others):
        worker.open(sealed)
    worker.open(late)
    outrun = client.seal(worker)[0]
    for sealed in [client.seal(worker)[0] for _ in range(1024)]:
        worker.open(sealed)
    _refused(SealBroken, "request.replayed", worker, outrun)


def test_a_session_nobody_opened_is_unknown() -> None:
    client, worker = FakeClient(), FakeWorker()
    client.ask(worker)
    worker.sessions = WorkerSessions(worker.pair, CLUSTER, worker.instance)
    sealed, pending = client.seal(worker)
    _refused(NotReady, "session.unknown", worker, sealed)
    pending.forget(worker.instance)
    assert client.ask(worker) == b"an answer"


def test_forgetting_ends_only_the_session_that_was_used() -> None:
    client, worker = FakeClient(), FakeWorker()
    _, old = client.seal(worker)
    _, also_old = client.seal(worker)
    old.forget(worker.instance)
    fresh = _parsed(client.seal(worker)[0]).recipients[0].session_id
    also_old.forget(worker.instance)
    assert _parsed(client.seal(worker)[0]).recipients[0].session_id == fresh
    client.sessions.forget(worker.instance)
    client.sessions.forget("nobody")
    assert _parsed(client.seal(worker)[0]).recipients[0].session_id != fresh


def test_another_key_of_an_instance_has_another_session() -> None:
    client, worker = FakeClient(), FakeWorker()
    client.ask(worker)
    changed = FakeWorker(XWING, instance=worker.instance)
    assert client.ask(changed) == b"an answer"


def test_deadlines_hold() -> None:
    client, worker = FakeClient(), FakeWorker()
    sealed, _ = client.seal(worker)
    worker.now = NOW + timedelta(seconds=30)
    _refused(InvalidRequest, "request.expired", worker, sealed)
    client.life = timedelta(minutes=11)
    _refused(InvalidRequest, "request.too_long", worker, client.seal(worker)[0])


def test_a_request_is_for_one_model() -> None:
    client, worker = FakeClient(), FakeWorker()
    sealed, _ = client.seal(worker)
    for digest in (None, bytes(32)):
        worker.digest = digest
        _refused(NotReady, "model.changed", worker, sealed)
    worker.digest = DIGEST
    assert worker.open(sealed).request == b"a request"


def test_errors_about_content_come_after_authentication() -> None:
    """A copy that is both expired and broken in its wrapped keys is broken: nothing of it is believed."""
    client, worker = FakeClient(), FakeWorker()
    message = _parsed(client.seal(worker)[0])
    message.recipients[0].wrapped_keys = flipped(message.recipients[0].wrapped_keys, 5)
    worker.now, worker.digest = NOW + timedelta(days=1), None
    _refused(SealBroken, "seal.broken", worker, message.SerializeToString())


def test_sessions_are_bounded_and_a_replay_after_eviction_is_refused() -> None:
    """The opening is still in the replayed request; the record of the session that made room refuses it."""
    client, worker = FakeClient(), FakeWorker(capacity=2)
    sealed, pending = client.seal(worker)
    worker.open(sealed)
    for _ in range(2):
        FakeClient().ask(worker)
    _refused(NotReady, "session.unknown", worker, sealed)
    pending.forget(worker.instance)
    assert client.ask(worker) == b"an answer"


def test_no_clock_brings_a_replay_back() -> None:
    """A host that shows a later time has records dropped; shown the earlier one again, the floor refuses."""
    client, worker = FakeClient(), FakeWorker(capacity=1)
    sealed, _ = client.seal(worker)
    worker.open(sealed)
    FakeClient().ask(worker)
    later = FakeClient(now=NOW + timedelta(hours=1))
    worker.now = later.now
    later.ask(worker)
    worker.now = NOW
    _refused(InvalidRequest, "request.expired", worker, sealed)
    assert FakeClient(life=timedelta(seconds=31)).ask(worker) == b"an answer"


def test_too_many_new_sessions_are_refused_while_known_ones_go_on() -> None:
    worker, client = FakeWorker(capacity=1), FakeClient()
    for _ in range(17):
        FakeClient().ask(worker)
    with pytest.raises(Overloaded):
        client.ask(worker)
    worker.now = NOW + timedelta(minutes=1)
    client.now = worker.now
    assert client.ask(worker) == b"an answer"
    assert client.ask(worker) == b"an answer"


@pytest.mark.parametrize("count", [0, 17])
def test_a_request_has_recipients_and_not_too_many(count: int) -> None:
    with pytest.raises(InvalidRequest):
        FakeClient().seal(*(FakeWorker() for _ in range(count)))


def test_a_request_names_a_recipient_once_and_by_its_name() -> None:
    worker = FakeWorker()
    with pytest.raises(InvalidRequest):
        FakeClient().seal(worker, worker)
    worker.instance = "elsewhere"
    with pytest.raises(InvalidRequest):
        FakeClient().seal(worker)


def test_a_client_holds_a_bounded_number_of_sessions() -> None:
    client, workers = FakeClient(), [FakeWorker() for _ in range(3)]
    client.sessions = ClientSessions(CLUSTER, capacity=2)
    for worker in workers:
        client.ask(worker)
    assert _parsed(client.seal(workers[0])[0]).recipients[0].opening
    assert not _parsed(client.seal(workers[2])[0]).recipients[0].opening


def test_wrapping_survives_a_doubled_client() -> None:
    """Two wrappings under one nonce, as after a fork: GCM-SIV shares no keystream between them."""
    cipher = session_keys.wrapping_cipher(Secret(bytes(32)), bytes(16))
    nonce = session_keys.wrapping_nonce(7)
    first, second = (cipher.encrypt(nonce, bytes([i]) * 64, b"") for i in (1, 2))
    assert {a ^ b for a, b in zip(first, second, strict=True)} != {3}
    assert len({a ^ b for a, b in zip(first[:64], second[:64], strict=True)}) > 8


# Padding


def _padded() -> FakeWorker:
    return FakeWorker(seal_version=2)


@pytest.mark.attack("I10")
def test_padded_requests_and_answers_of_different_lengths_look_alike() -> None:
    client, worker = FakeClient(), _padded()
    client.ask(worker)
    lengths = set()
    failure = OpenedResponse(failure=Failure(error="InvalidRequest", reason="request.invalid", message="tensor x"))
    for request, answer in ((b"short", ANSWER), (b"l" * 400, OpenedResponse(response=bytes(400))), (b"", failure)):
        sealed, pending = client.seal(worker, request=request, padded=True)
        assert pending.padded
        opened = worker.open(sealed)
        assert opened.request == request
        answered = opened.respond(answer)
        assert pending.open(answered) == answer
        lengths.add((len(sealed) - _sequence_bytes(sealed), len(answered)))
    assert len(lengths) == 1


def _sequence_bytes(sealed: bytes) -> int:
    """A recipient's sequence number and an opening are as long as they are: the gateway may know both."""
    return sum(recipient.ByteSize() for recipient in _parsed(sealed).recipients)


@pytest.mark.parametrize("size", [0, 511, 512, 100_000])
def test_a_padded_request_of_any_length_comes_back(size: int) -> None:
    client, worker = FakeClient(), _padded()
    sealed, _ = client.seal(worker, request=b"\x80" * size, padded=True)
    assert worker.open(sealed).request == b"\x80" * size


def test_who_cannot_strip_padding_gets_none() -> None:
    client, new, old = FakeClient(), _padded(), FakeWorker()
    sealed, pending = client.seal(new, old, padded=True)
    assert not pending.padded
    header = RequestHeader.FromString(_parsed(sealed).header)
    assert (header.version, header.padding) == (1, 0)
    assert pending.open(old.open(sealed).respond(ANSWER)) == ANSWER
    plain, pending = client.seal(new)
    assert pending.open(new.open(plain).respond(ANSWER)) == ANSWER


@pytest.mark.parametrize("changed", [{"version": 1, "padding": 1}, {"version": 2, "padding": 2}, {"version": 3}])
def test_a_header_that_nobody_writes_is_broken(changed: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer holds the keys, so nothing but the reading of the header can object."""
    client, worker = FakeClient(), _padded()

    def header(**fields: object) -> RequestHeader:
        return RequestHeader(**{**fields, "padding": 0, **changed})  # type: ignore[arg-type]  # by name

    monkeypatch.setattr(session_client, "RequestHeader", header)
    sealed, _ = client.seal(worker)
    _refused(SealBroken, "seal.broken", worker, sealed)


def test_padding_that_is_wrong_is_broken_on_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    client, worker = FakeClient(), _padded()
    good, pending = client.seal(worker, padded=True)
    opened = worker.open(good)
    with monkeypatch.context() as careless:
        careless.setattr(padding, "pad", lambda content: content + b"\x80")
        bad, _ = client.seal(worker, padded=True)
        answer = opened.respond(ANSWER)
    _refused(SealBroken, "seal.broken", worker, bad)
    with pytest.raises(SealBroken):
        pending.open(answer)
