"""What can be withdrawn, and what an order to lift it says."""

from __future__ import annotations

import json

import pytest

from cloister.errors import InvalidRequest
from cloister.kit.withdrawal import MAX_REASON, Withdrawn, check_reason, lift_order


@pytest.mark.parametrize(
    ("text", "what", "kind"), [("iris", Withdrawn("iris"), "model"), ("iris@12", Withdrawn("iris", 12), "version")]
)
def test_a_model_or_a_version_is_read_as_it_is_written(text: str, what: Withdrawn, kind: str) -> None:
    assert Withdrawn.read(text) == what
    assert (str(what), what.kind, what.refusal) == (text, kind, f"{kind}.withdrawn")


@pytest.mark.parametrize(
    "text", ["", "@2", "iris@", "iris@0", "iris@-1", "iris@x", "iris@1@2", "../iris", "Iris", "a" * 81]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Withdrawn.read(text)


@pytest.mark.parametrize("reason", ["", "a\nb", "x" * (MAX_REASON + 1)])
def test_a_reason_is_printable_and_bounded(reason: str) -> None:
    with pytest.raises(InvalidRequest):
        check_reason(reason)


@pytest.mark.attack("J14")
def test_an_order_names_mesh_kind_thing_line_and_time() -> None:
    order = lift_order("one.example", Withdrawn("iris", 2), 17, 1_700_000_000_000)
    assert json.loads(order) == {
        "cluster": "one.example",
        "kind": "version",
        "value": "iris@2",
        "sequence": 17,
        "withdrawn_at_ms": 1_700_000_000_000,
    }
    others = {
        lift_order("two.example", Withdrawn("iris", 2), 17, 1_700_000_000_000),
        lift_order("one.example", Withdrawn("iris"), 17, 1_700_000_000_000),
        lift_order("one.example", Withdrawn("iris", 2), 18, 1_700_000_000_000),
        lift_order("one.example", Withdrawn("iris", 2), 17, 1_700_000_000_001),
        lift_order("one.example", Withdrawn("iris", 2), 17, 1_700_000_000_000, generation=2),
    }
    assert order not in others
    assert len(others) == 5
