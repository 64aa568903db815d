from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloister.errors import NotReady
from cloister.evidence.gramine import GramineQuoter
from cloister.evidence.quoter import Quoter


class FakeAttestation:
    """Gramine's pseudo-files: the quote covers what was written last, by whomever."""

    def __init__(self) -> None:
        self._report_data: bytes | None = None

    def __truediv__(self, name: str) -> FakeAttestation:
        self._name = name
        return self

    def read_text(self, encoding: str) -> str:
        return {"attestation_type": "dcap\n"}[self._name]

    def open(self, mode: str, buffering: int) -> FakeAttestation:
        assert (self._name, mode, buffering) == ("user_report_data", "r+b", 0)
        return self

    def __enter__(self) -> FakeAttestation:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, report_data: bytes) -> int:
        assert self._report_data is None, "report data written while another quote was being made"
        self._report_data = report_data
        return len(report_data)

    def read_bytes(self) -> bytes:
        report_data, self._report_data = self._report_data, None
        assert report_data is not None
        return b"quote over " + report_data


def _directory(path: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


async def test_each_caller_gets_the_quote_over_its_own_report_data() -> None:
    quoter: Quoter = GramineQuoter(FakeAttestation())  # type: ignore[arg-type]  # behaves like the directory
    async with asyncio.TaskGroup() as group:
        quotes = [group.create_task(quoter.quote(bytes([i]) * 64)) for i in range(16)]
    assert [task.result() for task in quotes] == [b"quote over " + bytes([i]) * 64 for i in range(16)]


async def test_files_are_written_and_read(tmp_path: Path) -> None:
    _directory(tmp_path, attestation_type=b"dcap\n", user_report_data=bytes(64), quote=b"a quote")
    assert await GramineQuoter(tmp_path).quote(b"r" * 64) == b"a quote"
    assert (tmp_path / "user_report_data").read_bytes() == b"r" * 64


async def test_outside_an_enclave_there_is_no_quote(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="not inside an SGX enclave"):
        await GramineQuoter(tmp_path).quote(bytes(64))


@pytest.mark.parametrize("kind", [b"none", b"epid", b""])
async def test_another_kind_of_attestation_is_none(tmp_path: Path, kind: bytes) -> None:
    _directory(tmp_path, attestation_type=kind, user_report_data=bytes(64), quote=b"a quote")
    with pytest.raises(NotReady, match="dcap"):
        await GramineQuoter(tmp_path).quote(bytes(64))


async def test_a_quoting_service_that_fails_gives_no_quote(tmp_path: Path) -> None:
    _directory(tmp_path, attestation_type=b"dcap", user_report_data=bytes(64))
    with pytest.raises(NotReady, match="no quote"):
        await GramineQuoter(tmp_path).quote(bytes(64))
    _directory(tmp_path, quote=b"")
    with pytest.raises(NotReady, match="empty"):
        await GramineQuoter(tmp_path).quote(bytes(64))


async def test_report_data_has_64_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64"):
        await GramineQuoter(tmp_path).quote(bytes(63))
