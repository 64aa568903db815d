"""The seam between an Attester and whatever makes quotes on its platform."""

from __future__ import annotations

from typing import Protocol


class Quoter(Protocol):
    """Makes a quote over report data."""

    async def quote(self, report_data: bytes) -> bytes:
        """Return a raw DCAP quote over these 64 bytes.

        Raises:
            NotReady: This platform makes no quotes; the message says why.
        """
        ...
