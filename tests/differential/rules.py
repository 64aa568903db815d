"""Where the mesh answers otherwise than MLServer, and why: the table that docs/decisions/0029 speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from differential.answers import OK, Told
from differential.asks import GOOD, Ask, echo_name

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
        model: Only for this one, and then for every kind; empty for any.
    """

    carrier: Carrier
    kinds: tuple[str, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    reason: str
    aspect: str = "status"
    model: str = ""

    def explains(self, carrier: Carrier, ask: Ask, aspect: str, ours: Told, theirs: Told) -> bool:
        """Whether this is that difference."""
        return (
            carrier == self.carrier
            and (ask.model == self.model if self.model else ask.kind in self.kinds)
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

_BAD = ("400",)
_MALFORMED = (
    *("json.cut", "json.empty", "json.list", "json.id_number", "json.no_inputs", "json.no_data", "json.no_datatype"),
    *("json.no_shape", "json.shape_real", "json.shape_text", "datatype.unknown"),
)
_OVER_REST = (
    Rule(
        "rest",
        (),
        _BAD,
        (OK, "404", "500"),
        "JSON has no FP16, as in Triton: its bytes go behind the JSON (binary_data); that is seen before anything else",
        model=echo_name("FP16"),
    ),
    Rule("rest", tuple(GOOD), (OK,), (OK,), "who sends no id gets none; MLServer makes one up", aspect="id"),
    Rule("rest", _MALFORMED, _BAD, ("422",), "one status for what a client must mend; 422 is FastAPI's own"),
    Rule("rest", ("json.data_text", "json.ragged"), _BAD, ("500",), "data that are no tensor are the client's error"),
    Rule("rest", ("json.null",), _BAD, (OK, "500"), "null is no number; MLServer takes it for one, or breaks"),
    Rule(
        "rest", ("json.unknown_key",), _BAD, (OK,), "a member that nobody reads is a mistake, told rather than ignored"
    ),
    Rule("rest", _SHAPES, _BAD, (OK, "500"), _ACCEPTED),
    Rule("rest", ("datatype.other",), _BAD, (OK,), _ACCEPTED),
    Rule("rest", ("input.extra",), _BAD, (OK,), "an input that the model lacks is a mistake, and computed without"),
    Rule("rest", ("input.twice",), _BAD, (OK,), "which of two inputs of one name counts is not for a server to guess"),
    Rule("rest", _LENGTHS, _BAD, ("500",), "contents that do not fit their shape are the client's error"),
    Rule("rest", ("input.shared_memory",), _BAD, (OK,), "there is no shared memory; computing without it is no answer"),
    Rule("rest", ("output.classes",), _BAD, (OK,), "classes were asked for, and numbers are another answer"),
    Rule("rest", ("output.twice",), _BAD, (OK,), "an answer has each output once"),
    Rule("rest", ("id.unicode",), (OK,), ("500",), "any text is an id; MLServer copies it into a header, which fails"),
)

RULES: tuple[Rule, ...] = (*_OVER_GRPC, *_OVER_REST)
"""The first that explains a difference counts."""
