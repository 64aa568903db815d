"""Whether what a platform gave us is the quote that we asked for.

An Attester does not judge its own quote, that is the Verifier's work; but one over somebody else's report data, or of
another technology, would be refused there in one sentence, and here we can still say what went wrong. Offsets only,
nothing is believed by it.

Layouts: SGX ECDSA quoting library API, appendix A; TDX DCAP quoting library API, appendix 3.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cloister.errors import NotReady

REPORT_DATA_BYTES: Final = 64
MAX_QUOTE_BYTES: Final = 64 * 1024
MISMATCHED: Final = "quote.mismatched"

_VERSION: Final = slice(0, 2)
_TEE_TYPE: Final = slice(4, 8)


class Technology(NamedTuple):
    """What makes quotes, and where they hold the report data.

    Attributes:
        tee_type: Of the quote's header.
        report_data_at: Offset of REPORTDATA by version of the quote.
    """

    name: str
    tee_type: int
    report_data_at: dict[int, int]


SGX: Final = Technology("SGX", 0x00, {3: 48 + 320})
TDX: Final = Technology("TDX", 0x81, {4: 48 + 520, 5: 48 + 6 + 520})
"""Version 5 has the type and the length of its body, six bytes, before it; REPORTDATA is in the same place of each."""


def check_quoted(raw_quote: bytes, technology: Technology, report_data: bytes) -> None:
    """Check that these bytes are a quote of `technology` over `report_data`.

    Raises:
        NotReady: They are not (`quote.mismatched`).
    """
    if not raw_quote:
        raise _mismatched("the platform gave an empty quote")
    if len(raw_quote) > MAX_QUOTE_BYTES:
        raise _mismatched("the platform gave more bytes than any quote has")
    version = int.from_bytes(raw_quote[_VERSION], "little")
    at = technology.report_data_at.get(version)
    if at is None or int.from_bytes(raw_quote[_TEE_TYPE], "little") != technology.tee_type:
        raise _mismatched(f"the platform gave something else than a quote of {technology.name}")
    if raw_quote[at : at + REPORT_DATA_BYTES] != report_data:
        raise _mismatched("the platform gave a quote over other report data than it was asked for")


def _mismatched(message: str) -> NotReady:
    return NotReady(message, reason=MISMATCHED)
