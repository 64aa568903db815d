"""Quotes from Gramine's `/dev/attestation`, the only quoter in production.

The pseudo-files belong to the whole process: what is written to `user_report_data` is what the next read of `quote`
covers. One lock therefore holds both together. Under `gramine-direct`, or outside Gramine, there is no quote, and the
caller hears that as NotReady: nothing goes on with less.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from cloister.errors import NotReady

NO_ENCLAVE: Final = "enclave.absent"

_REPORT_DATA_BYTES: Final = 64


class GramineQuoter:
    """Asks Gramine, and through it the platform's quoting enclave.

    Args:
        directory: Where Gramine mounts its attestation files.
    """

    def __init__(self, directory: Path = Path("/dev/attestation")) -> None:
        self._directory = directory
        self._lock = asyncio.Lock()

    async def quote(self, report_data: bytes) -> bytes:
        """Return a raw DCAP quote over these 64 bytes.

        Raises:
            NotReady: Not inside a Gramine enclave with DCAP attestation.
        """
        if len(report_data) != _REPORT_DATA_BYTES:
            raise ValueError("report data is 64 bytes")
        async with self._lock:
            return await asyncio.to_thread(self._quote, report_data)

    def _quote(self, report_data: bytes) -> bytes:
        self._check_type()
        try:
            with (self._directory / "user_report_data").open("r+b", buffering=0) as file:
                file.write(report_data)
            quote = (self._directory / "quote").read_bytes()
        except OSError as error:
            raise NotReady("Gramine gave no quote; is the quoting service of this machine running?") from error
        if not quote:
            raise NotReady("Gramine gave an empty quote")
        return quote

    def _check_type(self) -> None:
        try:
            kind = (self._directory / "attestation_type").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotReady(
                "this process is not inside an SGX enclave: Gramine's attestation files are absent",
                reason=NO_ENCLAVE,
            ) from error
        if kind != "dcap":
            raise NotReady(
                'the manifest does not set sgx.remote_attestation = "dcap", so there are no quotes', reason=NO_ENCLAVE
            )
