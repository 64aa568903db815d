"""A quote laid out byte by byte: each field's name, place, value, meaning, and which check of an appraisal looks at it.

For people who want to see what evidence is made of. Nothing here believes anything: the checks are the appraisal's, and
`step` names the one that a field is for. The fields follow each other without a gap, so every byte of a quote is in one
of them. SGX quotes of version 3, which is what workers have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cloister.appraisal.quote import parse_quote
from cloister.appraisal.steps import Step
from cloister.client.quote_layout import HEADER, QE_REPORT, REPORT, SIGNATURE, certification
from cloister.errors import EvidenceRejected

_SGX_VERSION: Final = 3


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
    """The fields of an SGX quote in their order; nothing for bytes that are no SGX quote of version 3."""
    try:
        quote = parse_quote(raw_quote)
    except EvidenceRejected:
        return ()
    if quote.version != _SGX_VERSION:
        return ()
    return tuple(_laid_out(raw_quote, len(quote.qe_auth_data), len(quote.pck_chain)))


def _laid_out(raw: bytes, auth_bytes: int, chain_bytes: int) -> Iterator[QuoteField]:
    parts = (
        ("Header", HEADER),
        ("The enclave", REPORT),
        ("Signature", SIGNATURE),
        ("The quoting enclave that signed", QE_REPORT),
        ("Certificates", certification(auth_bytes, chain_bytes)),
    )
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
