"""What a rule about manifests is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from cloister.enclave.manifest_view import ManifestView


class Objection(NamedTuple):
    """What a rule's check yields: the key in the manifest, and what is wrong with it, as the end of a sentence."""

    key: str
    problem: str


Check = Callable[[ManifestView], Iterable[Objection]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a manifest may not have, or must.

    Attributes:
        id: Stable; an id that is not needed any more is not given to another rule.
        title: What is asked for.
        why: What somebody could do otherwise.
        mend: What to change.
        check: Yields what is wrong with a manifest.
    """

    id: str
    title: str
    why: str
    mend: str
    check: Check


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a manifest breaks a rule.

    Attributes:
        rule: Id of the rule.
        key: In the manifest, with dots; or the path of a file that it names.
        problem: What is wrong.
        why: Why it matters.
        mend: How to mend it.
    """

    rule: str
    key: str
    problem: str
    why: str
    mend: str

    @classmethod
    def of(cls, rule: Rule, objection: Objection) -> Finding:
        """What a rule objects to."""
        return cls(rule.id, objection.key, objection.problem, rule.why, rule.mend)

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return asdict(self)
