"""Every event that provisioner and verifier put on record has words for people, and so has every reason they give."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloister.client import AuditLine
from cloister.console.event_words import event
from cloister.console.reasons import reason_words

SERVICES = Path(__file__).parents[3] / "services" / "cloister"
NAMED = re.compile(r"[a-z_]+\.[a-z_]+")
WRITERS = {"line", "append", "appended", "add", "_append", "_recorded", "_tell", "partial"}
RELEASING = ("release", "rules", "offers", "quotas", "rates", "used_results", "witnessing", "session", "threads")
RELEASING_KIT = ("release_rules", "withdrawal")


def trees(folder: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((SERVICES / folder).rglob("*.py")):
        yield path.stem, ast.parse(path.read_text())


def constants(tree: ast.Module) -> dict[str, str]:
    """Module-level names of strings."""
    found: dict[str, str] = {}
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found[target.id] = node.value.value
    return found


def events(folder: str) -> set[str]:
    """What is given first, or second after a function, to what writes a line."""
    found: set[str] = set()
    shared = {name: value for _, tree in trees(folder) for name, value in constants(tree).items()}
    for _, tree in trees(folder):
        named = shared | constants(tree)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call):
                writer = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                words = [_text(argument, named) for argument in call.args[:2]] if writer in WRITERS else []
                found |= {word for word in words if NAMED.fullmatch(word)}
    return found


def reasons(folder: str, modules: tuple[str, ...]) -> set[str]:
    """What these modules refuse with."""
    found: set[str] = set()
    for stem, tree in trees(folder):
        if stem in modules:
            named = constants(tree)
            said = [each.value for each in ast.walk(tree) if isinstance(each, ast.keyword) and each.arg == "reason"]
            said += [each.args[-1] for each in ast.walk(tree) if isinstance(each, ast.Call) and len(each.args) > 3]
            found |= {word for word in (_text(each, named) for each in said) if NAMED.fullmatch(word)}
    return found


def _text(node: ast.expr, named: dict[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return named.get(node.id, "") if isinstance(node, ast.Name) else ""


EVENTS = {"provisioner": events("provisioner") | {"log.resumed"}, "verifier": events("verifier")}
REASONS = (reasons("provisioner", RELEASING) | reasons("kit", RELEASING_KIT)) - {
    "recovery.no_session",  # answers to a caller, which are on no record
    "recovery.paused",
    "withdrawal.invalid",
    "state.forked",
}


def test_the_walk_finds_events_and_reasons() -> None:
    assert {"key.released", "model.withdrawn", "keys.rewrapped", "recovery.share_given"} <= EVENTS["provisioner"]
    assert {"evidence.accepted", "revocation.lifted", "log.refused"} <= EVENTS["verifier"]
    assert {"rate.exceeded", "model.held", "hardware.simulated", "witness.behind", "share.wrong"} <= REASONS


@pytest.mark.parametrize(("record", "name"), [(record, name) for record in EVENTS for name in sorted(EVENTS[record])])
def test_each_event_has_words(record: str, name: str) -> None:
    title = event(AuditLine(1, {"event": name}, bytes(32)), record)["title"]
    assert title != name
    assert title[0].isupper() or title.startswith("@") or not title[0].isalpha()


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_each_reason_has_words(reason: str) -> None:
    assert reason_words(reason) != reason


def test_what_an_owner_wrote_is_told() -> None:
    said = {"event": "model.withdrawn", "model": "iris", "version": 0, "why": "trained on the wrong data"}
    told = event(AuditLine(1, said, bytes(32)), "releases")
    assert (told["title"], told["why"]) == (
        "iris withdrawn: its key goes to nobody",
        "trained on the wrong data",
    )
