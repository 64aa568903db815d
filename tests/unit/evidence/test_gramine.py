"""The quoter of production: against the simulator's attestation files, and against hosts that cheat or keep silent."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloister.errors import NotReady
from cloister.evidence.gramine import MAX_QUOTE_BYTES, GramineQuoter
from cloister.evidence.quoter import Quoter
from cloister_simulator.recipe import ATTRIBUTE_DEBUG
from fakes.attestation import attesting, quote_over
from fakes.sim import simulated_platform

REPORT_DATA = bytes(range(64))
IN_TIME_S = 0.05


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Attestation files of a host that has one quote, over `REPORT_DATA`."""
    (tmp_path / "attestation_type").write_bytes(b"dcap")
    (tmp_path / "user_report_data").write_bytes(bytes(64))
    (tmp_path / "quote").write_bytes(quote_over()(REPORT_DATA))
    return tmp_path


async def refusal(files: Path, report_data: bytes = REPORT_DATA, *, deadline_s: float = 10) -> NotReady:
    with pytest.raises(NotReady) as refused:
        await GramineQuoter(files, deadline_s=deadline_s).quote(report_data)
    return refused.value


async def test_report_data_is_written_and_the_quote_over_it_is_read(files: Path) -> None:
    assert await GramineQuoter(files).quote(REPORT_DATA) == (files / "quote").read_bytes()
    assert (files / "user_report_data").read_bytes() == REPORT_DATA


async def test_each_caller_gets_the_quote_over_its_own_report_data(tmp_path: Path) -> None:
    async with attesting(tmp_path) as folder:
        quoter: Quoter = GramineQuoter(folder)
        async with asyncio.TaskGroup() as group:
            quotes = [group.create_task(quoter.quote(bytes([i]) * 64)) for i in range(16)]
    assert [task.result()[368:432] for task in quotes] == [bytes([i]) * 64 for i in range(16)]


async def test_a_quote_that_comes_in_pieces_is_put_together(files: Path) -> None:
    whole = (files / "quote").read_bytes()
    (files / "quote").unlink()
    os.mkfifo(files / "quote")

    def trickle() -> None:
        with (files / "quote").open("wb", buffering=0) as pipe:
            for start in range(0, len(whole), 1000):
                pipe.write(whole[start : start + 1000])

    host = threading.Thread(target=trickle)
    host.start()
    assert await GramineQuoter(files).quote(REPORT_DATA) == whole
    host.join()


@pytest.mark.attack("I12")
async def test_a_quote_over_report_data_of_the_hosts_choice_is_found_at_once(files: Path) -> None:
    (files / "quote").write_bytes(quote_over()(b"\xee" * 64))
    refused = await refusal(files)
    assert (refused.reason, "handed over another" in str(refused)) == ("quote.substituted", True)


@pytest.mark.attack("I12")
async def test_an_earlier_quote_is_not_taken_for_a_new_one(files: Path) -> None:
    quoter = GramineQuoter(files)
    await quoter.quote(REPORT_DATA)
    with pytest.raises(NotReady) as refused:
        await quoter.quote(REPORT_DATA[::-1])
    assert refused.value.reason == "quote.substituted"


@pytest.mark.attack("I12")
async def test_report_data_that_somebody_else_wrote_in_between_is_not_vouched_for(tmp_path: Path) -> None:
    """The race of two that use Gramine's files at once: the later writer's report data is what is quoted."""
    others = b"\xee" * 64

    def quote(report_data: bytes) -> bytes:
        assert report_data == REPORT_DATA
        (tmp_path / "user_report_data").write_bytes(others)
        return quote_over()((tmp_path / "user_report_data").read_bytes())

    async with attesting(tmp_path, quote) as folder:
        assert (await refusal(folder)).reason == "quote.substituted"


async def test_whether_a_quote_is_genuine_is_not_for_the_enclave_to_say(files: Path) -> None:
    sim = simulated_platform()
    quote = sim.quote(REPORT_DATA, attributes=ATTRIBUTE_DEBUG.to_bytes(16, "little"))
    (files / "quote").write_bytes(quote)
    assert await GramineQuoter(files).quote(REPORT_DATA) == quote


@pytest.mark.parametrize(
    ("quote", "said"),
    [
        (b"", "empty"),
        (b"\3\0" + bytes(429), "431 bytes, too few"),
        (b"\4\0" + quote_over()(REPORT_DATA)[2:], "version 4"),
        (quote_over()(REPORT_DATA).ljust(MAX_QUOTE_BYTES + 1, b"\0"), "longer than 8192"),
    ],
    ids=["empty", "short", "another version", "long"],
)
async def test_what_is_no_quote_is_said_to_be_none(files: Path, quote: bytes, said: str) -> None:
    (files / "quote").write_bytes(quote)
    refused = await refusal(files)
    assert (refused.reason, said in str(refused)) == ("quote.malformed", True), str(refused)


@pytest.mark.parametrize("name", ["quote", "attestation_type"])
async def test_no_more_is_read_than_a_quote_may_have(files: Path, name: str) -> None:
    (files / name).unlink()
    (files / name).symlink_to("/dev/zero")
    assert "is longer than" in str(await refusal(files))


async def test_a_quote_of_the_largest_size_is_taken(files: Path) -> None:
    quote = quote_over()(REPORT_DATA).ljust(MAX_QUOTE_BYTES, b"\0")
    (files / "quote").write_bytes(quote)
    assert await GramineQuoter(files).quote(REPORT_DATA) == quote


async def test_outside_gramine_there_is_no_quote(tmp_path: Path) -> None:
    refused = await refusal(tmp_path)
    assert refused.reason == "enclave.absent"
    assert "not inside an SGX enclave: it runs outside Gramine; start it by gramine-sgx" in str(refused)


async def test_under_gramine_direct_there_is_no_quote(tmp_path: Path) -> None:
    """There, `/dev/attestation` has keys alone."""
    (tmp_path / "keys").mkdir()
    refused = await refusal(tmp_path)
    assert refused.reason == "enclave.absent"
    assert "not inside an SGX enclave: gramine-direct makes no quotes" in str(refused)


@pytest.mark.parametrize("kind", [b"none", b"epid", b"", b"dcap2", b"\xff"])
async def test_an_enclave_without_dcap_names_the_line_of_the_manifest(files: Path, kind: bytes) -> None:
    (files / "attestation_type").write_bytes(kind)
    refused = await refusal(files)
    assert refused.reason == "enclave.absent"
    assert 'sgx.remote_attestation = "dcap"' in str(refused)
    assert (files / "user_report_data").read_bytes() == bytes(64)


@pytest.mark.parametrize("name", ["quote", "user_report_data"])
async def test_a_quoting_service_that_fails_is_named(files: Path, name: str) -> None:
    """Gramine says EACCES, or has no such file; both are errors of the file system."""
    (files / name).unlink()
    refused = await refusal(files)
    assert (refused.reason, "systemctl status aesmd" in str(refused)) == ("quote.failed", True)


@contextmanager
def no_file_longer_than(size_bytes: int) -> Iterator[None]:
    """A write beyond it is a short one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_report_data_taken_in_part_is_not_quoted(files: Path) -> None:
    """Gramine would fill up the rest with zeros, and take a second write for a new beginning."""
    with no_file_longer_than(40):
        refused = await refusal(files)
    assert (refused.reason, str(refused)) == ("quote.failed", "Gramine took 40 of 64 bytes of report data")


@pytest.fixture
def silent(files: Path) -> Iterator[Path]:
    """A host that never answers: its quote cannot be opened. It gives up when the test is over."""
    (files / "quote").unlink()
    os.mkfifo(files / "quote")
    yield files
    os.close(os.open(files / "quote", os.O_RDWR))


async def test_a_host_that_never_answers_is_not_waited_for(silent: Path) -> None:
    refused = await refusal(silent, deadline_s=IN_TIME_S)
    assert refused.reason == "quote.overdue"
    assert "no quote within 0.05 s; see whether its quoting service (AESM) hangs" in str(refused)


async def test_while_a_quote_is_overdue_no_other_is_begun(silent: Path) -> None:
    quoter, threads = GramineQuoter(silent, deadline_s=IN_TIME_S), threading.active_count()
    for report_data in (REPORT_DATA, b"\xee" * 64):
        with pytest.raises(NotReady, match="no quote within"):
            await quoter.quote(report_data)
    assert (silent / "user_report_data").read_bytes() == REPORT_DATA
    assert threading.active_count() == threads + 1


async def test_a_host_that_answers_after_all_is_asked_again(files: Path) -> None:
    """What came too late is nobody's quote."""
    quote = (files / "quote").read_bytes()
    (files / "quote").unlink()
    os.mkfifo(files / "quote")
    quoter = GramineQuoter(files, deadline_s=IN_TIME_S)
    with pytest.raises(NotReady, match="no quote within"):
        await quoter.quote(b"\xee" * 64)
    late = os.open(files / "quote", os.O_RDWR)
    (files / "quote").unlink()
    (files / "quote").write_bytes(quote)
    os.close(late)
    assert await quoter.quote(REPORT_DATA) == quote


def test_a_host_that_never_answers_does_not_keep_the_process_from_ending(silent: Path) -> None:
    script = (
        "import asyncio, pathlib, sys; from cloister.evidence.gramine import GramineQuoter\n"
        f"asyncio.run(GramineQuoter(pathlib.Path(sys.argv[1]), deadline_s={IN_TIME_S}).quote(bytes(64)))"
    )
    done = subprocess.run([sys.executable, "-c", script, silent], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "NotReady: the platform gave no quote within" in done.stderr


async def test_report_data_has_64_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64"):
        await GramineQuoter(tmp_path).quote(bytes(63))
