"""Where the mesh answers otherwise than MLServer, and why: the table that docs/decisions/0029 speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from differential.answers import OK, Told

Carrier = Literal["grpc", "rest"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A difference that is meant.

    Attributes:
        carrier: Over which it is seen.
        kinds: Of requests.
        ours: Statuses that the mesh answers with.
        theirs: Statuses that MLServer answers with.
        reason: Why that is so.
        aspect: What differs: `status`, or of two answers `id`, `version` or `outputs`.
    """

    carrier: Carrier
    kinds: tuple[str, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    reason: str
    aspect: str = "status"

    def explains(self, carrier: Carrier, kind: str, aspect: str, ours: Told, theirs: Told) -> bool:
        """Whether this is that difference."""
        return (
            carrier == self.carrier
            and kind in self.kinds
            and aspect == self.aspect
            and ours.status in self.ours
            and theirs.status in self.theirs
        )


def difference(ours: Told, theirs: Told) -> str:
    """In what two answers differ first; empty where they say the same."""
    if ours.status != theirs.status:
        return "status"
    pairs = {name: (getattr(ours, name), getattr(theirs, name)) for name in ("version", "id", "outputs")}
    return next((name for name, (one, other) in pairs.items() if one != other), "") if ours.status == OK else ""


_SHAPES = ("shape.wider", "shape.flat", "shape.deeper", "shape.scalar", "shape.negative", "shape.enormous")
_LENGTHS = ("contents.short", "contents.long", "contents.none")
_PROTOBUF = ("protobuf.cut", "protobuf.garbage", "protobuf.text")

_INVALID = ("INVALID_ARGUMENT",)
_ACCEPTED = (
    "a model's metadata binds no request there; here what does not fit the model is refused before it is computed"
)
_OVER_GRPC = (
    Rule("grpc", _SHAPES, _INVALID, (OK, "INTERNAL"), _ACCEPTED),
    Rule("grpc", ("datatype.other",), _INVALID, (OK, "INTERNAL"), _ACCEPTED),
    Rule("grpc", ("input.extra",), _INVALID, (OK,), "an input that the model lacks is a mistake, and computed without"),
    Rule(
        "grpc", ("input.twice",), _INVALID, (OK,), "which of two inputs of one name counts is not for a server to guess"
    ),
    Rule("grpc", _LENGTHS, _INVALID, ("INTERNAL",), "contents that do not fit their shape are the client's error"),
    Rule(
        "grpc", ("datatype.unknown",), _INVALID, ("INTERNAL",), "a datatype that there is none of is the client's error"
    ),
    Rule("grpc", ("contents.both",), _INVALID, (OK, "INTERNAL"), "the protocol has contents raw or typed, never both"),
    Rule("grpc", ("contents.raw_count",), _INVALID, (OK,), "raw contents that belong to no input are not passed over"),
    Rule(
        "grpc", ("contents.other_field",), _INVALID, (OK, "INTERNAL"), "contents of another datatype are not converted"
    ),
    Rule(
        "grpc",
        ("input.shared_memory",),
        _INVALID,
        (OK,),
        "there is no shared memory; computing without it is no answer",
    ),
    Rule("grpc", ("output.classes",), _INVALID, (OK,), "classes were asked for, and numbers are another answer"),
    Rule("grpc", ("output.twice",), _INVALID, (OK,), "an answer has each output once"),
    Rule(
        "grpc",
        _PROTOBUF,
        _INVALID,
        ("UNKNOWN",),
        "what does not parse is the client's error; gRPC's server says UNKNOWN",
    ),
    Rule(
        "grpc",
        ("id.unicode",),
        (OK,),
        ("INTERNAL",),
        "any text is an id; MLServer copies it into a header, which fails",
    ),
)

RULES: tuple[Rule, ...] = _OVER_GRPC
