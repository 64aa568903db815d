"""The quoter of trust domains, against a double of the kernel's configfs that behaves as the kernel does."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from cloister.appraisal.quote import parse_quote
from cloister.errors import NotReady
from cloister.evidence.quoter import Quoter
from cloister.evidence.tsm import TsmQuoter
from fakes import corpus
from fakes.configfs import Kernel, written
from fakes.sim import simulated_platform

REPORT_DATA = bytes(range(64))


@pytest.fixture(scope="module")
def kernel_of_sim() -> Kernel:
    return Kernel(simulated_platform().td_quote)


@pytest.fixture
def kernel(kernel_of_sim: Kernel) -> Kernel:
    return Kernel(kernel_of_sim.quote_of)


@pytest.fixture
def quoter(kernel: Kernel, tmp_path: Path) -> TsmQuoter:
    return TsmQuoter(kernel.reports(tmp_path), pause_s=0.001)


async def refusal(quoter: Quoter, says: str) -> str:
    with pytest.raises(NotReady, match=says) as refused:
        await quoter.quote(REPORT_DATA)
    return refused.value.reason


async def test_a_quote_over_what_was_asked_and_no_entry_left_behind(kernel: Kernel, quoter: Quoter) -> None:
    quote = await quoter.quote(REPORT_DATA)
    assert quote[568:632] == REPORT_DATA
    assert kernel.left == []
    assert len(kernel.entries) == 1


async def test_names_of_entries_cannot_be_guessed(kernel: Kernel, quoter: Quoter) -> None:
    for _ in range(3):
        await quoter.quote(REPORT_DATA)
    assert len({entry.removeprefix("cloister-") for entry in kernel.entries}) == 3
    assert all(len(entry) == len("cloister-") + 32 for entry in kernel.entries)


async def test_each_caller_gets_its_own_quote_one_at_a_time(kernel: Kernel, quoter: Quoter) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(quoter.quote(bytes([n]) * 64)) for n in range(6)]
    assert [task.result()[568:632] for task in asked] == [bytes([n]) * 64 for n in range(6)]
    assert kernel.most_under_way == 1


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
@pytest.mark.parametrize("name", ["tdx4-utd-01:valid", "tdx5-td15ex-01:valid"])
async def test_the_quote_of_a_real_machine(kernel: Kernel, quoter: Quoter, name: str) -> None:
    real = corpus.evaluation(name).quote.read_bytes()
    report_data = parse_quote(real).body.report_data
    simulated = kernel.quote_of
    kernel.quote_of = lambda asked: real if asked == report_data else simulated(asked)
    assert await quoter.quote(report_data) == real
    assert await quoter.quote(REPORT_DATA) != real


@pytest.mark.attack("I12")
@pytest.mark.parametrize("before", [1, 2])
async def test_another_writer_never_gets_its_report_data_into_our_quote(
    kernel: Kernel, quoter: Quoter, before: int
) -> None:
    """Whoever finds our entry in time has written to it; the quote that comes of it is thrown away."""
    meddled = 0

    def meddle(entry: Path) -> None:
        nonlocal meddled
        if meddled < before:
            meddled += 1
            written(entry, b"m" * 64)

    kernel.before_read = meddle
    assert (await quoter.quote(REPORT_DATA))[568:632] == REPORT_DATA
    assert len(kernel.entries) == before + 1
    assert kernel.left == []


async def test_a_writer_that_never_stops_is_given_up_on(kernel: Kernel, quoter: Quoter) -> None:
    kernel.before_read = lambda entry: written(entry, b"m" * 64)
    assert await refusal(quoter, "another process of this guest") == "quote.failed"
    assert len(kernel.entries) == 5
    assert kernel.left == []


async def test_a_write_that_the_kernel_refused_without_a_word_is_noticed(kernel: Kernel, quoter: Quoter) -> None:
    kernel.deaf = True
    assert await refusal(quoter, "writes to our requests") == "quote.failed"


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EINTR, errno.EAGAIN])
async def test_what_may_pass_is_asked_again(kernel: Kernel, quoter: Quoter, code: int) -> None:
    kernel.read_errors, kernel.mkdir_errors = [code] * 2, [code] * 2
    assert (await quoter.quote(REPORT_DATA))[568:632] == REPORT_DATA
    assert kernel.left == []


@pytest.mark.parametrize(
    ("code", "reason", "says"),
    [
        (errno.EBUSY, "quote.failed", "under way all the time.*EBUSY"),
        (errno.ETIMEDOUT, "quote.failed", "QGS"),
        (errno.EIO, "quote.failed", "QGS"),
        (errno.EFBIG, "quote.failed", "EFBIG"),
        (errno.ENOTTY, "enclave.absent", "tdx_guest"),
    ],
)
async def test_a_host_that_gives_no_quote(kernel: Kernel, tmp_path: Path, code: int, reason: str, says: str) -> None:
    kernel.read_errors = [code] * 1000
    quoter = TsmQuoter(kernel.reports(tmp_path), deadline_s=10, pause_s=30)
    assert await refusal(quoter, says) == reason
    assert kernel.left == []


@pytest.mark.parametrize(
    ("code", "reason", "says"),
    [
        (errno.ENOENT, "enclave.absent", "Linux 6.7 .*CONFIG_TSM_REPORTS.* configfs mounted"),
        (errno.ENXIO, "enclave.absent", "tdx_guest driver"),
        (errno.EACCES, "quote.failed", "run it as root"),
    ],
)
async def test_a_guest_that_makes_no_reports(kernel: Kernel, quoter: Quoter, code: int, reason: str, says: str) -> None:
    kernel.mkdir_errors = [code]
    assert await refusal(quoter, says) == reason


async def test_without_a_driver_or_the_folder_there_are_none(kernel: Kernel, quoter: Quoter, tmp_path: Path) -> None:
    kernel.provider = ""
    assert await refusal(quoter, "no TDX guest") == "enclave.absent"
    assert await refusal(TsmQuoter(tmp_path / "none"), "configfs-tsm is not there") == "enclave.absent"


async def test_reports_of_another_technology_are_none_of_ours(kernel: Kernel, quoter: Quoter) -> None:
    kernel.provider = "sev_guest"
    assert await refusal(quoter, "'sev_guest', not by tdx_guest") == "enclave.absent"
    assert kernel.left == []


@pytest.mark.parametrize(
    ("made", "says", "reason"),
    [
        (b"", "empty", "quote.malformed"),
        (b"no quote", "something else", "quote.malformed"),
        (simulated_platform().quote(REPORT_DATA), "something else", "quote.malformed"),
        (simulated_platform().td_quote(bytes(64)), "not over the report data", "quote.substituted"),
    ],
    ids=["empty", "none", "of an enclave", "over nothing"],
)
async def test_what_is_not_the_quote_that_was_asked_for(
    kernel: Kernel, quoter: Quoter, made: bytes, says: str, reason: str
) -> None:
    kernel.quote_of = lambda report_data: made
    assert await refusal(quoter, says) == reason


async def test_memory_of_the_guest_behind_the_quote_goes_nowhere(kernel: Kernel, quoter: Quoter) -> None:
    """A host that lies about the length has an old kernel read on beyond its buffer of 8 KiB (CVE-2026-31470)."""
    simulated, room = kernel.quote_of, 8 * 1024 - 24
    kernel.quote_of = lambda report_data: simulated(report_data).ljust(room, b"\0")
    assert len(await quoter.quote(REPORT_DATA)) == room
    kernel.quote_of = lambda report_data: simulated(report_data).ljust(room, b"\0") + b"secret"
    assert await refusal(quoter, "CVE-2026-31470") == "quote.malformed"


async def test_a_host_that_never_answers_holds_nobody_up_for_longer_than_the_deadline(
    kernel: Kernel, tmp_path: Path
) -> None:
    quoter = TsmQuoter(kernel.reports(tmp_path), deadline_s=0.3, pause_s=0.001)
    kernel.released.clear()
    try:
        assert await refusal(quoter, "no quote within 0.3 s") == "quote.overdue"
        assert (
            await refusal(quoter, "no quote within 0.3 s") == "quote.overdue"
        )  # it waited for the first, and no longer
        assert len(kernel.entries) == 1
    finally:
        kernel.released.set()
    assert await asyncio.to_thread(kernel.removed.wait, 5)
    assert kernel.left == []
    late = TsmQuoter(kernel.reports(tmp_path), pause_s=0.001)
    assert (await late.quote(REPORT_DATA))[568:632] == REPORT_DATA


async def test_report_data_has_64_bytes(quoter: Quoter) -> None:
    with pytest.raises(ValueError, match="64"):
        await quoter.quote(bytes(63))
