"""A quote laid out byte by byte: each field's name, place, value, meaning, and which check of an appraisal looks at it.

For people who want to see what evidence is made of. Nothing here believes anything: the checks are the appraisal's, and
`step` names the one that a field is for. The fields follow each other without a gap, so every byte of a quote is in one
of them. SGX quotes of version 3, and TDX quotes of versions 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cloister.appraisal.body import TD_REPORT_15_BYTES, TD_REPORT_15_EXTENDED_BYTES, Tee
from cloister.appraisal.quote import Quote, parse_quote
from cloister.appraisal.steps import Step
from cloister.client.quote_layout import HEADER, QE_REPORT, REPORT, SIGNATURE, certification
from cloister.client.quote_row import Row
from cloister.client.td_quote_layout import TD_15, TD_15_EXTENDED, TD_BODY_TYPE, TD_HEADER, TD_REPORT, TD_WRAPPING
from cloister.errors import EvidenceRejected

_LAST_WITHOUT_BODY_TYPE: Final = 4
_QE: Final = "The quoting enclave that signed"
Part = tuple[str, tuple[Row, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteField:
    """One field of a quote.

    Attributes:
        group: Part of the quote that it stands in.
        offset: Of its first byte in the quote.
        raw: Its bytes.
        value: The same in words; empty where the bytes say it best.
        meaning: What it is, for somebody who has never seen a quote.
        check: What an appraisal asks of it.
        step: Number of the check that does; 0 where none looks at it.
    """

    group: str
    name: str
    offset: int
    raw: bytes
    value: str
    meaning: str
    check: str
    step: int


def quote_fields(raw_quote: bytes) -> tuple[QuoteField, ...]:
    """The fields of a quote in their order; nothing for bytes that are no quote that is known."""
    try:
        quote = parse_quote(raw_quote)
    except EvidenceRejected:
        return ()
    parts = _enclave_parts() if quote.tee is Tee.SGX else _domain_parts(quote)
    certificates = certification(len(quote.qe_auth_data), len(quote.pck_chain))
    return tuple(_laid_out(raw_quote, (*parts, (_QE, QE_REPORT), ("Certificates", certificates))))


def _enclave_parts() -> tuple[Part, ...]:
    return ("Header", HEADER), ("The enclave", REPORT), ("Signature", SIGNATURE)


def _domain_parts(quote: Quote) -> tuple[Part, ...]:
    """What stands before the quoting enclave's report; the body's length tells its form."""
    about = TD_BODY_TYPE if quote.version > _LAST_WITHOUT_BODY_TYPE else ()
    body_bytes = len(quote.signed) - sum(row.size for row in (*TD_HEADER, *about))
    more = TD_15 if body_bytes >= TD_REPORT_15_BYTES else ()
    most = TD_15_EXTENDED if body_bytes == TD_REPORT_15_EXTENDED_BYTES else ()
    return (
        ("Header", (*TD_HEADER, *about)),
        ("The trust domain", (*TD_REPORT, *more, *most)),
        ("Signature", (*SIGNATURE, *TD_WRAPPING)),
    )


def _laid_out(raw: bytes, parts: Iterable[Part]) -> Iterator[QuoteField]:
    position = 0
    for group, rows in parts:
        for row in rows:
            piece = raw[position : position + row.size]
            yield QuoteField(
                group=group,
                name=row.name,
                offset=position,
                raw=piece,
                value=row.worded(piece),
                meaning=row.meaning,
                check=row.check,
                step=row.step,
            )
            position += row.size
    if padding := raw[position:]:
        yield QuoteField(
            group="After the quote",
            name="Padding",
            offset=position,
            raw=padding,
            value=f"{len(padding)} zero bytes",
            meaning="Zero bytes after the quote, which nobody signed.",
            check="Refused, unless the policy says 'allow_zero_padding'.",
            step=Step.POLICY,
        )
