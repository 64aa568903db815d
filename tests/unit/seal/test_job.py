from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.api.v1.seal_pb2 import JobHeader, KeptJob, OpenedJobResult, SealedJob, SealedJobResult
from cloister.api.v1.worker_pb2 import Failure
from cloister.errors import CloisterError, InvalidRequest, NotReady, SealBroken
from cloister.seal import hpke, job_keys, padding, receipt, session_keys
from cloister.seal.job import MAX_KNOWN, JobKey, JobOpener, JobSealer, JobTicket, OpenedJob
from fakes.sealed import CLUSTER, DIGEST, NOW, flipped, unhurried

ANSWER = OpenedJobResult(response=b"an answer")
_FIXED = "the sealed message could not be opened"


class Worker:
    """One that has the epoch keys it is given."""

    def __init__(self, *pairs: hpke.KeyPair, model: str = "resnet", cluster: str = CLUSTER, capacity: int = 8) -> None:
        self.pairs = {(model, pair.key_id): pair for pair in pairs}
        self.opener = JobOpener(lambda name, key_id: self.pairs.get((name, key_id)), cluster, capacity)
        self.now = NOW
        self.digest: bytes | None = DIGEST

    def open(self, sealed: bytes) -> OpenedJob:
        return self.opener.open(sealed, now=self.now, digest_of=lambda _name, _version: self.digest)


class Client:
    """One that seals to the epoch key it is given."""

    def __init__(self, pair: hpke.KeyPair, epoch: int = 1) -> None:
        self.sealer = JobSealer(CLUSTER)
        self.key = JobKey(
            model_name="resnet",
            epoch=epoch,
            suite=pair.suite,
            public=pair.public,
            seal_until=NOW + timedelta(hours=1),
            open_until=NOW + timedelta(hours=25),
        )

    def seal(
        self,
        request: bytes = b"a request",
        *,
        job_id: bytes | None = None,
        life: timedelta = timedelta(hours=24),
        model_version: str = "",
        model_digest: bytes = b"",
        padded: bool = False,
        known: dict[str, str] | None = None,
    ) -> tuple[bytes, JobTicket]:
        return self.sealer.seal(
            request,
            epoch=self.key,
            not_after=NOW + life,
            job_id=job_id,
            model_version=model_version,
            model_digest=model_digest,
            padded=padded,
            known=known,
        )


@pytest.fixture
def pair() -> hpke.KeyPair:
    return hpke.KeyPair.generate(hpke.X25519)


def _refused(error: type[CloisterError], reason: str, worker: Worker, sealed: bytes) -> None:
    with pytest.raises(error) as raised:
        worker.open(sealed)
    assert raised.value.reason == reason
    if error is SealBroken:
        assert str(raised.value) == _FIXED


@pytest.mark.parametrize("suite", [hpke.XWING, hpke.X25519])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("request_bytes", [b"r", bytes(70_000)])
def test_a_job_and_its_answer(suite: str, padded: bool, request_bytes: bytes) -> None:
    pair = hpke.KeyPair.generate(suite)
    sealed, ticket = Client(pair).seal(request_bytes, model_version="1", model_digest=DIGEST, padded=padded)
    job = Worker(pair).open(sealed)
    assert (job.request, job.job_id, job.epoch) == (request_bytes, ticket.job_id, 1)
    assert (job.model_name, job.model_version, job.model_digest) == ("resnet", "1", DIGEST)
    assert job.not_after == ticket.not_after == NOW + timedelta(hours=24)
    assert job.request_sha256 == ticket.request_sha256 == receipt.content_hash(ticket.job_id, request_bytes)
    assert ticket.open(job.respond(ANSWER)) == ANSWER
    for hidden in (repr(job), repr(ticket)):
        assert "request=" not in hidden
        assert "_seed" not in hidden


def test_a_failure_is_content_too(pair: hpke.KeyPair) -> None:
    sealed, ticket = Client(pair).seal()
    failure = OpenedJobResult(failure=Failure(error="InvalidRequest", reason="request.invalid", message="tensor x"))
    answer = Worker(pair).open(sealed).respond(failure)
    assert b"tensor x" not in answer
    assert ticket.open(answer) == failure


KNOWN = {"ear-1": "one token", "ear-2": "another"}


def test_an_answer_leaves_out_a_result_that_its_ticket_has(pair: hpke.KeyPair) -> None:
    sealed, ticket = Client(pair).seal(known=KNOWN)
    job = Worker(pair).open(sealed)
    assert job.known_results == ("ear-1", "ear-2")
    answer = job.respond(OpenedJobResult(response=b"an answer", known_result=2))
    assert b"another" not in answer
    for kept in (ticket, JobTicket.from_bytes(ticket.to_bytes())):
        assert kept.open(answer).attestation_result == "another"


@pytest.mark.parametrize(("number", "token"), [(0, ""), (3, ""), (2, "a third")])
def test_an_answer_under_a_result_that_its_ticket_has_not_is_none(number: int, token: str, pair: hpke.KeyPair) -> None:
    sealed, ticket = Client(pair).seal(known=KNOWN)
    answer = OpenedJobResult(response=b"an answer", known_result=number, attestation_result=token)
    with pytest.raises(SealBroken):
        ticket.open(Worker(pair).open(sealed).respond(answer))


def test_a_ticket_keeps_few_results(pair: hpke.KeyPair) -> None:
    with pytest.raises(InvalidRequest):
        Client(pair).seal(known={f"ear-{number}": "token" for number in range(MAX_KNOWN + 1)})


def test_any_worker_with_the_key_opens_any_job_at_any_time_and_more_than_once(pair: hpke.KeyPair) -> None:
    client, first, second = Client(pair), Worker(pair), Worker(pair)
    jobs = [client.seal(b"job %d" % number) for number in range(3)]
    for worker in (first, second, second, first):
        for number, (sealed, ticket) in reversed(list(enumerate(jobs))):
            job = worker.open(sealed)
            assert job.request == b"job %d" % number
            assert ticket.open(job.respond(ANSWER)) == ANSWER
    assert len(first.opener) == len(second.opener) == 1  # one client, one epoch: HPKE was paid once


def test_each_answer_has_keys_of_its_own(pair: hpke.KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to one job, from two workers that know nothing of each other, and from one that answers twice."""
    used: list[tuple[bytes, bytes]] = []
    derive = job_keys.answer_cipher

    def noting(seed: bytes, salt: bytes) -> object:
        used.append((seed, salt))
        return derive(seed, salt)

    sealed, ticket = Client(pair).seal()
    monkeypatch.setattr(job_keys, "answer_cipher", noting)
    answers = [job.respond(ANSWER) for job in (Worker(pair).open(sealed), Worker(pair).open(sealed)) for _ in range(2)]
    assert len(set(used)) == len(used) == 4
    assert len({seed for seed, _ in used}) == 1
    assert len(set(answers)) == 4
    assert [ticket.open(answer) for answer in answers] == [ANSWER] * 4


def test_a_job_that_is_sealed_again_is_another_one(pair: hpke.KeyPair) -> None:
    """As by a client that has lost what it kept: the same id, the same content, and no key in common."""
    client, worker, job_id = Client(pair), Worker(pair), bytes(16)
    sealed = [client.seal(job_id=job_id) for _ in range(2)]
    sealed.append(Client(pair).seal(job_id=job_id))
    answers = [worker.open(each).respond(ANSWER) for each, _ in sealed]
    messages = [SealedJob.FromString(each) for each, _ in sealed]
    for ours, theirs in pairwise(messages):
        assert ours.ciphertext[:9] != theirs.ciphertext[:9]
        assert ours.wrapped_keys != theirs.wrapped_keys
    for number, (_, ticket) in enumerate(sealed):
        assert ticket.open(answers[number]) == ANSWER
        with pytest.raises(SealBroken):
            ticket.open(answers[number - 1])


@pytest.mark.attack("H02")
def test_the_answer_to_another_job_does_not_open(pair: hpke.KeyPair) -> None:
    client, worker = Client(pair), Worker(pair)
    (sealed, _), (_, other) = client.seal(), client.seal()
    answer = worker.open(sealed).respond(ANSWER)
    with pytest.raises(SealBroken) as raised:
        other.open(answer)
    assert str(raised.value) == _FIXED


@unhurried
@given(st.data())
def test_no_changed_bit_of_a_job_opens(data: st.DataObject) -> None:
    """Neither by a worker that knows its client, nor by one that does not."""
    pair = hpke.KeyPair.generate(hpke.X25519)
    client, fresh, knowing = Client(pair), Worker(pair), Worker(pair)
    knowing.open(client.seal()[0])
    sealed, _ = client.seal()
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    for worker in (fresh, knowing):
        for broken in (flipped(sealed, bit), sealed[: bit // 8], sealed + b"\x00", b"\x00" + sealed):
            with pytest.raises((SealBroken, NotReady)) as raised:
                worker.open(broken)
            # Another key id is a key that nobody has: the one thing that a gateway may know.
            assert raised.value.reason in ("seal.broken", "epoch.unknown")
    assert len(fresh.opener) == 0
    assert len(knowing.opener) == 1


@unhurried
@given(st.data())
def test_no_changed_bit_of_an_answer_opens(data: st.DataObject) -> None:
    pair = hpke.KeyPair.generate(hpke.X25519)
    sealed, ticket = Client(pair).seal()
    answer = Worker(pair).open(sealed).respond(ANSWER)
    bit = data.draw(st.integers(0, len(answer) * 8 - 1))
    for broken in (flipped(answer, bit), answer[: bit // 8], answer + b"\x00"):
        with pytest.raises(SealBroken):
            ticket.open(broken)
    assert ticket.open(answer) == ANSWER


@unhurried
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(raw: bytes) -> None:
    pair = hpke.KeyPair.generate(hpke.X25519)
    with pytest.raises(SealBroken):
        Worker(pair).open(raw)
    with pytest.raises(SealBroken):
        Client(pair).seal()[1].open(raw)


@pytest.mark.parametrize("field", ["session_id", "opening", "wrapped_keys", "header"])
def test_nothing_of_another_job_fits(field: str, pair: hpke.KeyPair) -> None:
    worker = Worker(pair)
    ours, theirs = (SealedJob.FromString(Client(pair).seal()[0]) for _ in range(2))
    for sealed in (ours, theirs):
        worker.open(sealed.SerializeToString())
    setattr(ours, field, getattr(theirs, field))
    _refused(SealBroken, "seal.broken", worker, ours.SerializeToString())


def _sealed_as(client: Client, monkeypatch: pytest.MonkeyPatch, **changes: object) -> bytes:
    """A job whose header its own client has written in another way."""

    def header(**fields: object) -> JobHeader:
        return JobHeader(**(fields | changes))  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("cloister.seal.job_client.JobHeader", header)
        return client.seal()[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"padding": 2},
        {"model_digest": b"short"},
        {"job_id": bytes(15)},
        {"not_after_ms": 1 << 62},
        {"epoch": 2},
        {"model_version": "1" * 1024},
    ],
)
def test_a_header_that_is_not_known_is_refused(
    changes: dict[str, object], pair: hpke.KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(pair)
    _refused(SealBroken, "seal.broken", Worker(pair), _sealed_as(client, monkeypatch, **changes))
    Worker(pair).open(_sealed_as(client, monkeypatch))


@pytest.mark.attack("D09")
def test_a_worker_of_another_cluster_does_not_open(pair: hpke.KeyPair) -> None:
    _refused(SealBroken, "seal.broken", Worker(pair, cluster="other.internal"), Client(pair).seal()[0])


@pytest.mark.parametrize("other", [Worker(), Worker(hpke.KeyPair.generate(hpke.X25519))])
def test_without_the_epochs_key_nothing_opens(other: Worker, pair: hpke.KeyPair) -> None:
    _refused(NotReady, "epoch.unknown", other, Client(pair).seal()[0])


def test_the_key_of_another_model_does_not_open(pair: hpke.KeyPair) -> None:
    _refused(NotReady, "epoch.unknown", Worker(pair, model="other"), Client(pair).seal()[0])


def test_with_the_key_goes_all_that_was_opened_by_it(pair: hpke.KeyPair) -> None:
    client, worker, other = Client(pair), Worker(pair), hpke.KeyPair.generate(hpke.X25519)
    worker.pairs["resnet", other.key_id] = other
    worker.open(client.seal()[0])
    worker.open(Client(other).seal()[0])
    worker.opener.drop(pair.key_id)
    assert len(worker.opener) == 1
    worker.open(client.seal()[0])  # it has the key still
    del worker.pairs["resnet", pair.key_id]
    _refused(NotReady, "epoch.unknown", worker, client.seal()[0])
    worker.open(Client(other).seal()[0])


def test_a_client_that_was_not_heard_of_for_longest_makes_room(pair: hpke.KeyPair) -> None:
    worker, clients = Worker(pair, capacity=2), [Client(pair) for _ in range(3)]
    for client in clients:
        worker.open(client.seal()[0])
    assert len(worker.opener) == 2
    worker.open(clients[0].seal()[0])


def test_jobs_of_one_client_are_one_party_and_of_two_are_two(pair: hpke.KeyPair) -> None:
    worker, ours, theirs = Worker(pair), Client(pair), Client(pair)
    parties = [worker.open(client.seal()[0]).party for client in (ours, ours, theirs)]
    assert parties[0] == parties[1] != parties[2]


def test_past_its_deadline_it_is_not_opened(pair: hpke.KeyPair) -> None:
    sealed, ticket = Client(pair).seal(life=timedelta(seconds=10))
    worker = Worker(pair)
    worker.now = ticket.not_after - timedelta(milliseconds=1)
    worker.open(sealed)
    worker.now = ticket.not_after
    _refused(InvalidRequest, "request.expired", worker, sealed)


def test_no_deadline_lies_beyond_the_end_of_the_key(pair: hpke.KeyPair) -> None:
    client = Client(pair)
    client.seal(life=timedelta(hours=25))
    with pytest.raises(InvalidRequest) as raised:
        client.seal(life=timedelta(hours=25, milliseconds=1))
    assert raised.value.reason == "request.too_long"


def test_only_the_model_answers_that_is_meant(pair: hpke.KeyPair) -> None:
    client, worker = Client(pair), Worker(pair)
    meant, _ = client.seal(model_digest=DIGEST)
    any_model, _ = client.seal()
    worker.open(meant)
    for other in (None, bytes(32)):
        worker.digest = other
        _refused(NotReady, "model.changed", worker, meant)
        worker.open(any_model)


@pytest.mark.parametrize("raw", [b"an answer", padding.pad(b"an answer")[:-1]])
def test_an_answer_that_is_not_padded_as_it_was_asked_to_be_is_refused(
    raw: bytes, pair: hpke.KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed, ticket = Client(pair).seal(padded=True)
    job = Worker(pair).open(sealed)
    assert ticket.open(job.respond(ANSWER)) == ANSWER
    monkeypatch.setattr(padding, "pad", lambda _: raw)
    with pytest.raises(SealBroken):
        ticket.open(job.respond(ANSWER))


def test_padding_hides_lengths(pair: hpke.KeyPair) -> None:
    client = Client(pair)
    sizes = {len(client.seal(bytes(size), padded=True)[0]) for size in (1, 100, 500)}
    assert len(sizes) == 1


def test_an_empty_answer_is_none(pair: hpke.KeyPair) -> None:
    sealed, ticket = Client(pair).seal()
    with pytest.raises(SealBroken):
        ticket.open(Worker(pair).open(sealed).respond(OpenedJobResult()))


def test_what_seals_is_checked(pair: hpke.KeyPair) -> None:
    client = Client(pair)
    with pytest.raises(InvalidRequest):
        client.seal(job_id=bytes(15))
    with pytest.raises(InvalidRequest):
        client.seal(model_digest=bytes(31))
    client.key = replace(client.key, public=b"no key")
    with pytest.raises(InvalidRequest):
        client.seal()


def test_each_epoch_has_a_session_of_its_own(pair: hpke.KeyPair) -> None:
    client, other = Client(pair), hpke.KeyPair.generate(hpke.X25519)
    first = [SealedJob.FromString(client.seal()[0]) for _ in range(2)]
    assert first[0].opening == first[1].opening
    client.key = replace(client.key, epoch=2, public=other.public)
    second = SealedJob.FromString(client.seal()[0])
    assert second.session_id != first[0].session_id
    assert Worker(other).open(second.SerializeToString()).epoch == 2


@pytest.mark.parametrize("with_request", [True, False])
def test_a_ticket_that_was_kept_opens_the_answer(with_request: bool, pair: hpke.KeyPair) -> None:
    sealed, ticket = Client(pair).seal(model_version="3", model_digest=DIGEST, padded=True)
    kept = JobTicket.from_bytes(ticket.to_bytes(with_request=with_request))
    assert kept.request == (b"a request" if with_request else b"")
    assert replace(kept, request=b"") == replace(ticket, request=b"")
    assert kept.open(Worker(pair).open(sealed).respond(ANSWER)) == ANSWER


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"job_id": b"short"},
        {"model_name": "Not A Name"},
        {"response_seed": bytes(31)},
        {"transcript": b""},
        {"request_sha256": bytes(33)},
        {"padding": 2},
        {"not_after_ms": -1},
        {"not_after_ms": 1 << 60},
        {"sealed_at_ms": 0},
        {"sealed_at_ms": 1 << 60},
        {"request": b"another request"},
    ],
)
def test_a_ticket_that_is_none_is_told(changes: dict[str, object], pair: hpke.KeyPair) -> None:
    kept = KeptJob.FromString(Client(pair).seal()[1].to_bytes())
    for name, value in changes.items():
        setattr(kept, name, value)
    for raw in (kept.SerializeToString(), b"", b"\xff"):
        with pytest.raises(InvalidRequest) as raised:
            JobTicket.from_bytes(raw)
        assert raised.value.reason == "ticket.malformed"


def test_numbers_of_the_ciphertexts_fields() -> None:
    assert SealedJob.CIPHERTEXT_FIELD_NUMBER == job_keys.JOB_CIPHERTEXT
    assert SealedJobResult.CIPHERTEXT_FIELD_NUMBER == job_keys.ANSWER_CIPHERTEXT
    assert job_keys.wrapping_nonce(bytes(range(16))) == bytes(range(12))
    assert session_keys.TAG_BYTES == 16
