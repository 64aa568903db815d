"""Which version answers where a client names none, or a label."""

from __future__ import annotations

import pytest

from cloister.errors import InvalidRequest
from cloister.gateway.routing import ModelRouting, Routing

WRITTEN = b"""
[models.iris]
default = 2
labels = { stable = 2, canary = 3 }

[models."a.b"]
labels = { old = 1 }
"""


def test_a_file_is_read_and_written_alike() -> None:
    read = Routing.parse(WRITTEN)
    assert read.of("iris") == ModelRouting("2", {"stable": "2", "canary": "3"})
    assert read.of("a.b") == ModelRouting("", {"old": "1"})
    assert Routing.parse(read.encode()) == read
    assert Routing.parse(b"") == Routing.parse(Routing().encode()) == Routing()


def test_what_a_client_asks_for_stands_for_a_version() -> None:
    read = Routing.parse(WRITTEN)
    assert [read.chosen("iris", asked) for asked in ("", "stable", "canary", "7", "latest")] == [
        "2",
        "2",
        "3",
        "7",
        None,
    ]
    assert [read.chosen("a.b", asked) for asked in ("", "stable", "old")] == ["", None, "1"]
    assert [read.chosen("none", asked) for asked in ("", "stable", "1")] == ["", None, "1"]


def test_choices_are_changed_one_by_one() -> None:
    changed = Routing.parse(WRITTEN).with_default("iris", "3").with_labels("iris", {"stable": "3", "canary": ""})
    assert changed.of("iris") == ModelRouting("3", {"stable": "3"})
    assert changed.of("a.b").labels == {"old": "1"}
    emptied = changed.with_default("iris", "").with_labels("iris", {"stable": ""})
    assert set(emptied.models) == {"a.b"}
    with pytest.raises(InvalidRequest):
        changed.with_default("No Name", "1")


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xff",
        b"models = 3",
        b"other = 1",
        b"[models.iris]\nversion = 2",
        b"[models.Iris]\ndefault = 2",
        b"[models.iris]\ndefault = 0",
        b"[models.iris]\ndefault = true",
        b'[models.iris]\ndefault = "2"',
        b"[models.iris]\ndefault = 12345678901",
        b"[models.iris]\nlabels = { 2 = 3 }",
        b"[models.iris]\nlabels = { Stable = 3 }",
        b'[models.iris]\nlabels = { stable = "canary" }',
        b"[models.iris]\nlabels = [ 3 ]",
        b"[models.iris]\nlabels = { " + b", ".join(b"l%d = 1" % number for number in range(65)) + b" }",
    ],
)
def test_a_file_that_makes_no_sense(wrong: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Routing.parse(wrong)
    assert raised.value.reason == "routing.invalid"
