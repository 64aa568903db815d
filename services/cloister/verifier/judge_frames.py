"""What a verifier and its judging processes say to each other: JSON in frames, over pipes.

A frame is a length of four bytes, big endian, and one JSON object with the members of one message below; bytes are in
hexadecimal. JSON is data and nothing else: whatever evidence may have done to a judging process, its answers set
nothing in motion in the verifier. Values are structured by their types, so a message of another shape is refused.
"""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, Final, TypeVar

import cattrs

from cloister.appraisal.appraise import Appraisal, Expected
from cloister.appraisal.policy import Policy

LENGTH_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The first frame: the trust anchor, once for the life of the process."""

    name: str
    root_der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One case. Collateral and policy go by digest; they are here when the process has said that it needs them."""

    quote: bytes
    claims: bytes
    expect: Expected
    now: datetime
    collateral_sha256: bytes
    policy_digest: bytes
    collateral: bytes | None = None
    policy: Policy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Exactly one of its members is set.

    Attributes:
        ready: The answer to the anchor.
        needs: The process does not hold the collateral or policy; ask again with both.
        appraisal: The evidence is believed.
        rejected: A check objected.
        failed: Class of an error that is none of ours to raise.
    """

    ready: bool = False
    needs: bool = False
    appraisal: Appraisal | None = None
    rejected: Rejected | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """What `EvidenceRejected` says."""

    message: str
    step: int
    reason: str


M = TypeVar("M", Anchor, Question, Answer)


def encode(message: Anchor | Question | Answer) -> bytes:
    """A whole frame; raises ValueError where it would be too long to be read."""
    raw = json.dumps(_converter().unstructure(message), separators=(",", ":")).encode()
    if len(raw) > MAX_FRAME_BYTES:
        raise ValueError("a frame is too long")
    return len(raw).to_bytes(LENGTH_BYTES, "big") + raw


def length(head: bytes) -> int:
    """How long the object is whose frame begins with `head`; raises ValueError where that is too long."""
    size_bytes = int.from_bytes(head, "big")
    if size_bytes > MAX_FRAME_BYTES:
        raise ValueError("a frame is too long")
    return size_bytes


def decode(raw: bytes, kind: type[M]) -> M:
    """The message in a frame; raises ValueError."""
    try:
        message: M = _converter().structure(json.loads(raw), kind)
    except Exception as error:  # neither library says which errors another shape can come to
        raise ValueError(f"not a frame that holds {kind.__name__}") from error
    return message


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(
        detailed_validation=False,
        omit_if_default=True,
        forbid_extra_keys=True,
        unstruct_collection_overrides={Set: list},
    )
    for moment in (date, datetime):
        converter.register_unstructure_hook(moment, moment.isoformat)
        converter.register_structure_hook(moment, lambda value, kind: kind.fromisoformat(value))
    converter.register_unstructure_hook(bytes, bytes.hex)
    converter.register_structure_hook(bytes, lambda value, _: bytes.fromhex(value))
    converter.register_structure_hook_func(lambda kind: kind in (str, int, bool), _exactly)
    return converter


def _exactly(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(kind.__name__)
    return value
