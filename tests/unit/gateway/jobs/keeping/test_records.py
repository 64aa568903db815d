"""Records of jobs hold for the job, the model, the tenant and the mesh that they were made for, and for no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import SealBroken, Unavailable
from cloister.gateway.jobs.job import Job, Priority, State
from cloister.gateway.jobs.keeping.records import FIRST, Header, Predecessor, Records, matches

RECORDS = Records(b"k" * 32, "mesh.example")
JOB = Job(
    job_id=bytes(range(16)),
    tenant="hospital é",
    model_name="tiny",
    request=b"sealed",
    submitted_ms=1_800_000_000_000,
    not_after_ms=1_800_000_600_000,
    key="scan 7",
    priority=Priority.HIGH,
    order_key="patient 7",
    result_ttl_s=60,
)
BEFORE = Predecessor("0f" * 16, 1_800_000_300_000)


def header(job: Job = JOB, after: Predecessor = FIRST, records: Records = RECORDS) -> Header:
    return records.open_header(records.header(job, after), job.model_name)


def end(of: Header) -> bytes:
    error = Unavailable("gone", reason="worker.lost")
    return RECORDS.end(of, State.DEAD, now_ms=1_800_000_001_000, attempts=2, error=error)


@contextmanager
def refused(reason: str) -> Iterator[None]:
    with pytest.raises(SealBroken) as caught:
        yield
    assert caught.value.reason == reason


def test_a_header_says_what_the_job_is() -> None:
    found = header(after=BEFORE)
    assert found.job(JOB.request) == replace(JOB, key="", order_key="")
    assert found.after == BEFORE
    assert found.member == f"{JOB.job_id.hex()} {found.row_name}"


def test_an_end_says_what_became_of_it() -> None:
    found = RECORDS.open_end(header(), end(header()))
    assert (found.state, found.ended_ms, found.kept_until_ms) == (State.DEAD, 1_800_000_001_000, 1_800_000_061_000)
    assert isinstance(found.error, Unavailable)
    assert found.error.reason == "worker.lost"


def test_an_end_knows_its_response() -> None:
    sealed = RECORDS.end(header(), State.ANSWERED, now_ms=1, attempts=1, response=b"an answer")
    found = RECORDS.open_end(header(), sealed)
    assert matches(b"an answer", found)
    assert not matches(b"another", found)
    assert not matches(b"", found)


@pytest.mark.attack("H01")
@pytest.mark.parametrize("other", [Records(b"j" * 32, "mesh.example"), Records(b"k" * 32, "mesh.example.org")])
def test_another_key_or_mesh_makes_no_record_of_ours(other: Records) -> None:
    with refused("job.forged"):
        RECORDS.open_header(other.header(JOB), "tiny")


@pytest.mark.attack("H01")
@given(st.data())
def test_a_record_with_one_bit_changed_is_refused(data: st.DataObject) -> None:
    for sealed, opened in (
        (RECORDS.header(JOB, BEFORE), lambda changed: RECORDS.open_header(changed, "tiny")),
        (end(header()), lambda changed: RECORDS.open_end(header(), changed)),
        (RECORDS.detour(header(), BEFORE), lambda changed: RECORDS.predecessor(header(), changed)),
    ):
        at = data.draw(st.integers(0, len(sealed) * 8 - 1))
        changed = bytearray(sealed)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(SealBroken):
            opened(bytes(changed))


@pytest.mark.attack("H04")
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(junk: bytes) -> None:
    with refused("job.forged"):
        RECORDS.open_header(junk, "tiny")
    with refused("end.forged"):
        RECORDS.open_end(header(), junk)


@pytest.mark.attack("H01")
def test_a_record_of_one_kind_is_none_of_another() -> None:
    with refused("job.forged"):
        RECORDS.open_header(end(header()), "tiny")
    with refused("end.forged"):
        RECORDS.open_end(header(), header().sealed)


@pytest.mark.attack("H02")
@pytest.mark.parametrize("change", ["job_id", "tenant", "request", "not_after_ms"])
def test_an_end_belongs_to_one_submission(change: str) -> None:
    changes = {"job_id": bytes(16), "tenant": "other", "request": b"other", "not_after_ms": 1}
    other = header(replace(JOB, **{change: changes[change]}))  # type: ignore[arg-type]
    with refused("end.moved"):
        RECORDS.open_end(other, end(header()))


@pytest.mark.attack("H01")
@pytest.mark.parametrize("request_", [b"", b"sealeD", b"sealed.", b"seale"])
def test_a_header_has_one_request(request_: bytes) -> None:
    with refused("job.changed"):
        header().job(request_)


@pytest.mark.attack("H01")
def test_a_turn_is_proven_or_over() -> None:
    second = header(after=BEFORE)
    proof = RECORDS.proof(second, BEFORE.job_id)
    RECORDS.check_turn(second, b"", proof, 0)
    RECORDS.check_turn(second, b"", b"", BEFORE.not_after_ms)
    RECORDS.check_turn(header(), b"", b"", 0)
    others = header(replace(JOB, tenant="other"), BEFORE)
    for wrong in (b"", proof[:-1], RECORDS.proof(second, "aa" * 16), RECORDS.proof(others, BEFORE.job_id)):
        with refused("row.forged"):
            RECORDS.check_turn(second, b"", wrong, BEFORE.not_after_ms - 1)


@pytest.mark.attack("H01")
def test_a_detour_is_for_one_job() -> None:
    second, further = header(after=BEFORE), Predecessor("aa" * 16, 5)
    detour = RECORDS.detour(second, further)
    assert RECORDS.predecessor(second, detour) == further
    RECORDS.check_turn(second, RECORDS.detour(second, FIRST), b"", 0)
    with refused("row.forged"):
        RECORDS.predecessor(header(replace(JOB, job_id=bytes(16)), BEFORE), detour)


def test_words_of_tenants_have_names_of_their_own() -> None:
    names = {
        RECORDS.name(what, model, tenant, word)
        for what in ("key", "row")
        for model in ("tiny", "huge")
        for tenant in ("a", "ab")
        for word in ("b", "bb")
    }
    assert len(names) == 16
    assert RECORDS.name("key", "tiny", "a", "") == ""
