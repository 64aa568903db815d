"""Whether what the kernel gave is the TDX quote that was asked for.

An Attester does not judge its own quote, that is the Verifier's work; but one over somebody else's report data would be
refused there in one sentence, and here we can still say what went wrong. Offsets only, nothing is believed by it.

Layout: TDX DCAP quoting library API, appendix 3.
"""

from __future__ import annotations

from typing import Final

from cloister.errors import NotReady

MALFORMED: Final = "quote.malformed"
SUBSTITUTED: Final = "quote.substituted"

_TDX: Final = 0x81
_VERSION: Final = slice(0, 2)
_TEE_TYPE: Final = slice(4, 8)
# Version 5 has type and length of its body, six bytes, before it; REPORTDATA is in the same place of every body.
_REPORT_DATA_AT: Final = {4: 48 + 520, 5: 48 + 6 + 520}


def check_quoted(raw_quote: bytes, report_data: bytes) -> None:
    """Check that these bytes are a TDX quote over `report_data`.

    Raises:
        NotReady: They are no such quote (`quote.malformed`), or one over something else (`quote.substituted`).
    """
    if not raw_quote:
        raise NotReady("the kernel gave an empty quote", reason=MALFORMED)
    version = int.from_bytes(raw_quote[_VERSION], "little")
    at = _REPORT_DATA_AT.get(version)
    if at is None or int.from_bytes(raw_quote[_TEE_TYPE], "little") != _TDX:
        raise NotReady("the kernel gave something else than a TDX quote of version 4 or 5", reason=MALFORMED)
    if raw_quote[at : at + len(report_data)] != report_data:
        raise NotReady(
            "the quote is not over the report data that was asked for: the host handed over another one",
            reason=SUBSTITUTED,
        )
