"""The simulator's attestation files: a quote is made when it is opened, and the folder is nobody else's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dcap_qvl
import pytest
from typer.testing import CliRunner

from cloister.errors import AlreadyExists, InvalidRequest, NotFound, NotReady
from cloister.evidence.gramine import GramineQuoter
from cloister_simulator import cli, store
from cloister_simulator.attestation import serve
from cloister_simulator.held_file import hold
from cloister_simulator.measurement import MRSIGNER, built_measurement
from cloister_simulator.recipe import ATTRIBUTE_DEBUG
from fakes.attestation import attesting, is_served, names, quote_over, until_served
from fakes.sim import library_verdict, simulated_platform

BUILT = {
    "kind": "worker",
    "set": "simulated",
    "mrenclave": "ab" * 32,
    "mrsigner": None,
    "isvprodid": 101,
    "isvsvn": 3,
    "debug": False,
    "files": {},
}
REPORT_DATA = bytes(range(64))
SERVED = {"attestation_type", "user_report_data", "quote"}


def write(folder: Path, report_data: bytes) -> None:
    (folder / "user_report_data").write_bytes(report_data)


async def read(folder: Path) -> bytes:
    """Open the quote and read it, as another process would: off the loop, which answers."""
    return await asyncio.to_thread((folder / "quote").read_bytes)


async def test_a_quote_is_over_what_was_written_before_it_was_opened(tmp_path: Path) -> None:
    async with attesting(tmp_path / "a") as folder:
        for i in range(20):
            write(folder, bytes([i]) * 64)
            assert (await read(folder))[368:432] == bytes([i]) * 64


async def test_who_opens_it_before_it_is_made_waits_for_it(tmp_path: Path) -> None:
    """All of those who opened it before it was made have the same one; whoever comes later, another."""
    made = []

    def quote(report_data: bytes) -> bytes:
        made.append(report_data)
        return b"quote %d" % len(made)

    async with attesting(tmp_path, quote) as folder:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(read(folder)) for _ in range(8)]
        assert {task.result() for task in asked} <= {b"quote %d" % (i + 1) for i in range(len(made))}
        before = len(made)
        assert await read(folder) == b"quote %d" % (before + 1)


async def test_the_size_that_was_seen_before_says_nothing(tmp_path: Path) -> None:
    """Gramine keeps the size of a file from when it first saw it."""
    async with attesting(tmp_path) as folder:
        assert (folder / "quote").stat().st_size == 0
        assert len(await read(folder)) > 4000
        assert (folder / "quote").stat().st_size == 0


async def test_nothing_is_left_when_it_stops(tmp_path: Path) -> None:
    async with attesting(tmp_path / "a") as folder:
        assert names(folder) == SERVED
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not names(folder)


async def test_a_platform_that_fails_ends_it_and_who_waits_has_no_quote(tmp_path: Path) -> None:
    def quote(report_data: bytes) -> bytes:
        raise ValueError("the platform is broken")

    with pytest.raises(ExceptionGroup) as ended:
        async with attesting(tmp_path, quote) as folder:
            assert await read(folder) == b""
    assert ended.group_contains(ValueError, match="the platform is broken")
    assert not names(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    def quote(report_data: bytes) -> bytes:
        os.kill(os.getpid(), number)
        return b"the last"

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        serving = group.create_task(serve(tmp_path, quote))
        await until_served(tmp_path, serving)
        assert await read(tmp_path) == b"the last"
        await serving
    assert not names(tmp_path)


async def test_it_stops_with_its_enclave(tmp_path: Path) -> None:
    enclave = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        serving = group.create_task(serve(tmp_path, quote_over(), until_exit_of=enclave.pid))
        await until_served(tmp_path, serving)
        assert not serving.done()
        await enclave.communicate(b"")
        await serving
    assert not names(tmp_path)


async def test_an_enclave_that_is_gone_is_not_served(tmp_path: Path) -> None:
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    with pytest.raises(InvalidRequest, match=f"there is no process {gone.pid}"):
        await serve(tmp_path, quote_over(), until_exit_of=gone.pid)


async def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InvalidRequest, match=r"not a folder for attestation files: it holds 'thesis.tex'"):
        await serve(tmp_path, quote_over())
    assert names(tmp_path) == {"thesis.tex"}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    tmp_path.chmod(0o770)
    return tmp_path


async def test_a_folder_that_others_may_write_to_is_refused(shared: Path) -> None:
    with pytest.raises(InvalidRequest, match="others may write to it"):
        await serve(shared, quote_over())


async def test_a_folder_that_is_served_is_refused_and_goes_on_being_served(tmp_path: Path) -> None:
    async with attesting(tmp_path) as folder:
        with pytest.raises(AlreadyExists, match="each enclave has a folder of its own"):
            await serve(folder, quote_over())
        assert names(folder) == SERVED


async def test_what_a_killed_one_left_behind_is_taken_over(tmp_path: Path) -> None:
    for name in ("attestation_type", "user_report_data", "quote", "quote.next"):
        (tmp_path / name).write_bytes(b"left behind")
    async with attesting(tmp_path) as folder:
        write(folder, b"n" * 64)
        assert (await read(folder))[368:432] == b"n" * 64


def test_a_file_system_without_leases_is_named(tmp_path: Path) -> None:
    """None is at hand here; a pipe can be leased as little."""
    ends = os.pipe()
    with pytest.raises(NotReady, match=f"{tmp_path} lies on a file system without leases"):
        hold(ends[1], tmp_path)
    for end in ends:
        os.close(end)


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    CliRunner().invoke(cli.app, ["init", str(tmp_path / "sim")], catch_exceptions=False)
    return tmp_path / "sim"


@pytest.fixture
def enclave(tmp_path: Path) -> Path:
    """Where an enclave was built."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "measurement.json").write_text(json.dumps(BUILT))
    return tmp_path / "worker"


class Enclave(threading.Thread):
    """Attests once, as soon as it can, and has the server stopped."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.quote = b""
        self._folder = folder

    def run(self) -> None:
        while not is_served(self._folder):
            time.sleep(0.001)
        try:
            self.quote = asyncio.run(GramineQuoter(self._folder).quote(REPORT_DATA))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


Attested = Callable[..., bytes]


@pytest.fixture
def attested(platform: Path, enclave: Path, monkeypatch: pytest.MonkeyPatch) -> Attested:
    """Has an enclave attest by the command, with further options of it."""
    monkeypatch.setattr(cli.log, "configure", lambda _service: None)  # the test's own logging stays
    return partial(_attested, platform, enclave)


def _attested(platform: Path, built: Path, *more: str) -> bytes:
    folder = built / "host" / "attestation"
    enclave = Enclave(folder)
    enclave.start()
    words = ["attestation", str(folder), "--platform", str(platform), "--enclave", str(built), *more]
    done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    enclave.join()
    assert done.exit_code == 0
    assert done.stderr.startswith("This is simulated")
    assert "attestation.simulated" in done.stdout
    return enclave.quote


def test_it_quotes_the_enclave_that_was_built(attested: Attested, platform: Path) -> None:
    quote = attested()
    report = dcap_qvl.parse_quote(quote).report
    assert (report.mr_enclave, report.mr_signer) == (b"\xab" * 32, MRSIGNER)
    assert (quote[304:308], report.report_data) == (b"\x65\0\3\0", REPORT_DATA)
    loaded = store.load(platform, simulated_platform().window.issued_at)
    collateral = (platform / store.COLLATERAL).read_bytes()
    assert library_verdict(loaded, quote=quote, collateral=collateral) == ("UpToDate", [])


def test_it_can_claim_to_be_another_enclave_or_a_debug_one(attested: Attested) -> None:
    report = dcap_qvl.parse_quote(attested("--mrenclave", "ef" * 32, "--debug-enclave")).report
    assert report.mr_enclave == b"\xef" * 32
    assert report.attributes[0] & ATTRIBUTE_DEBUG


def built(enclave: Path, **changed: object) -> None:
    (enclave / "measurement.json").write_text(json.dumps(BUILT | changed))


def test_an_enclave_that_was_built_for_debugging_says_so(enclave: Path) -> None:
    built(enclave, debug=True)
    assert built_measurement(enclave).attributes[0] & ATTRIBUTE_DEBUG


@pytest.mark.attack("C12")
@pytest.mark.parametrize("enclave_set", ["hardened", "debug"])
def test_an_enclave_for_real_hardware_gets_no_simulated_quotes(enclave: Path, enclave_set: str) -> None:
    built(enclave, set=enclave_set)
    with pytest.raises(InvalidRequest, match=f"is of the {enclave_set} set; only simulated enclaves"):
        built_measurement(enclave)


def test_where_nothing_was_built_it_says_how(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cloister enclave build"):
        built_measurement(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"mrenclave": "ab"},
        {"mrsigner": "cd" * 32},
        {"mrenclave": None},
        {"isvprodid": "101"},
        {"isvprodid": True},
        {"isvsvn": 1 << 16},
        {"isvsvn": -1},
    ],
)
def test_a_measurement_that_is_none_is_refused(enclave: Path, changed: dict[str, object]) -> None:
    built(enclave, **changed)
    with pytest.raises(InvalidRequest):
        built_measurement(enclave)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_file_that_is_no_measurement_is_named(enclave: Path, text: str) -> None:
    (enclave / "measurement.json").write_text(text)
    with pytest.raises(InvalidRequest, match=r"measurement.json is no measurement"):
        built_measurement(enclave)
