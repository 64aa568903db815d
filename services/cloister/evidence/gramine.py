"""Quotes of an SGX enclave from Gramine's `/dev/attestation`.

What is written to `user_report_data` is kept once for the whole process, and what the next opening of `quote` covers:
one call at a time does both. Gramine 1.9 checks nothing of the quote that the host's quoting service hands over. What
that service cannot know is which keys are ours, so a quote is ours if it is over our report data; whether it is genuine
is for the verifier to say. The host may also never answer, and every wait therefore has an end.

Where there is no quote the caller hears why, as NotReady: nothing goes on with less.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from cloister.errors import NotReady
from cloister.evidence.deadline import OneCall

NO_ENCLAVE: Final = "enclave.absent"
MAX_QUOTE_BYTES: Final = 8192
"""As many as Gramine takes from the quoting service; a quote has about 4.7 KB."""
DEADLINE_S: Final = 30.0
"""The first quote after a boot may take seconds, while the platform's attestation key is made and certified."""

_REPORT_DATA_BYTES: Final = 64
_TYPE_BYTES: Final = 32
_VERSION: Final = 3
# Header of 48 bytes, then the report body of 384, which REPORTDATA ends (Intel SGX ECDSA Quote Library, appendix A).
_REPORT_DATA: Final = slice(48 + 320, 48 + 384)


class GramineQuoter:
    """Asks Gramine, and through it the platform's quoting enclave.

    Args:
        directory: Where Gramine mounts its attestation files.
        deadline_s: How long a quote may take.
        hung: Told, in a thread of its own, if a quote has still not come `deadline.GRACE_S` after that. Gramine holds
            its lock on all paths until then: whatever opens a file waits, on the event loop too, and only ending the
            process at once does end it.
    """

    def __init__(
        self,
        directory: Path = Path("/dev/attestation"),
        *,
        deadline_s: float = DEADLINE_S,
        hung: Callable[[NotReady], object] | None = None,
    ) -> None:
        self._directory = directory
        self._deadline_s = deadline_s
        told = None if hung is None else partial(hung, self._overdue())
        self._calls = OneCall("quote", deadline_s=deadline_s, hung=told)

    async def quote(self, report_data: bytes) -> bytes:
        """Return a raw DCAP quote over these 64 bytes.

        Raises:
            NotReady: Not inside a Gramine enclave with DCAP attestation (`enclave.absent`); the platform makes no quote
                (`quote.failed`), none in time (`quote.overdue`), or not the one that was asked for (`quote.malformed`,
                `quote.substituted`).
        """
        if len(report_data) != _REPORT_DATA_BYTES:
            raise ValueError(f"report data is {_REPORT_DATA_BYTES} bytes")
        try:
            raw_quote = await self._calls.answer(partial(self._quote, report_data))
        except TimeoutError:
            raise self._overdue() from None
        _check_quote(raw_quote, report_data)
        return raw_quote

    def _overdue(self) -> NotReady:
        return NotReady(
            f"the platform gave no quote within {self._deadline_s:g} s; see whether its quoting service (AESM) hangs",
            reason="quote.overdue",
        )

    def _quote(self, report_data: bytes) -> bytes:
        try:
            self._check_type()
            self._write(report_data)
            return self._read("quote", MAX_QUOTE_BYTES)
        except OSError as error:
            raise NotReady(
                "Gramine gave no quote; see that AESM runs on this machine (systemctl status aesmd), has its plug-in "
                "for ECDSA quotes, and reaches the service that certifies the platform (PCCS)",
                reason="quote.failed",
            ) from error

    def _check_type(self) -> None:
        try:
            kind = self._read("attestation_type", _TYPE_BYTES).strip()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotReady(self._absence(), reason=NO_ENCLAVE) from error
        if kind != b"dcap":
            raise NotReady(
                'the manifest does not set sgx.remote_attestation = "dcap", so there are no quotes', reason=NO_ENCLAVE
            )

    def _absence(self) -> str:
        why = "gramine-direct makes no quotes" if (self._directory / "keys").is_dir() else "it runs outside Gramine"
        return f"this process is not inside an SGX enclave: {why}; start it by gramine-sgx, on a machine with SGX"

    def _write(self, report_data: bytes) -> None:
        """At one stroke: to Gramine each write is the whole, and what it lacks of 64 bytes is zeros."""
        file = os.open(self._directory / "user_report_data", os.O_WRONLY | os.O_CLOEXEC)
        try:
            taken = os.write(file, report_data)
        finally:
            os.close(file)
        if taken != len(report_data):
            raise NotReady(f"Gramine took {taken} of {len(report_data)} bytes of report data", reason="quote.failed")

    def _read(self, name: str, max_bytes: int) -> bytes:
        """All of a file, however few bytes come at a time; its size says nothing, Gramine shows 0 for each."""
        content = b""
        file = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(file, max_bytes + 1 - len(content)):
                content += piece
        finally:
            os.close(file)
        if len(content) > max_bytes:
            raise NotReady(f"Gramine's file {name} is longer than {max_bytes} bytes", reason="quote.malformed")
        return content


def _check_quote(raw_quote: bytes, report_data: bytes) -> None:
    """Check that a quote is the one asked for; raises NotReady."""
    if not raw_quote:
        raise NotReady("Gramine gave an empty quote", reason="quote.malformed")
    if len(raw_quote) < _REPORT_DATA.stop:
        raise NotReady(f"Gramine gave {len(raw_quote)} bytes, too few for a quote", reason="quote.malformed")
    version = int.from_bytes(raw_quote[:2], "little")
    if version != _VERSION:
        raise NotReady(f"Gramine gave a quote of version {version}, not {_VERSION}", reason="quote.malformed")
    if raw_quote[_REPORT_DATA] != report_data:
        raise NotReady(
            "the quote is not over the report data that was asked for: the host handed over another one, or something "
            "else in this process uses Gramine's attestation files",
            reason="quote.substituted",
        )
