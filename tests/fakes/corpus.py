"""The quote corpus: real, derived and simulated quotes with their collateral, and what each must come to.

The corpus is data that others published, so it is not in the repository: it lies where `CLOISTER_QUOTE_CORPUS` says, or
in `shared/quotes` beside the repository. Its `manifest.json` explains itself. Without it the tests that need it are
skipped, and say how much was not tested.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.verify import VerifiedQuote, verify_quote

EVALUATIONS = 264
ABSENT = (
    f"QUOTE CORPUS ABSENT: {EVALUATIONS} evaluations of quotes NOT RUN; "
    "set CLOISTER_QUOTE_CORPUS to the folder that holds manifest.json"
)

_REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("CLOISTER_QUOTE_CORPUS", _REPOSITORY.parent / "shared" / "quotes"))


@dataclass(frozen=True)
class Expected:
    """What an evaluation must come to.

    Attributes:
        verified: Whether the quote is genuine under the anchor at the time.
        tcb_status: If it is.
        advisory_ids: If it is; sorted.
        accepted: Whether the default policy accepts it.
        reason: The corpus's own word for why not.
    """

    verified: bool
    tcb_status: str | None
    advisory_ids: tuple[str, ...]
    accepted: bool
    reason: str | None


@dataclass(frozen=True)
class Evaluation:
    """One quote, judged at one time under one root."""

    name: str
    quote: Path
    collateral: Path
    root: Path
    now: datetime
    expected: Expected

    def anchor(self) -> TrustAnchor:
        """The trust anchor for the root, Intel's own where it is that."""
        der = self.root.read_bytes()
        return INTEL_SGX if der == INTEL_SGX.root_der else TrustAnchor("corpus", der)


def present() -> bool:
    """Whether the corpus is there."""
    return (FOLDER / "manifest.json").is_file()


@cache
def evaluations() -> tuple[Evaluation, ...]:
    """Every evaluation of the corpus, in its order; none when it is absent."""
    if not present():
        return ()
    manifest = json.loads((FOLDER / "manifest.json").read_bytes())
    return tuple(_evaluation(entry, one) for entry in manifest["entries"] for one in entry["evaluations"])


def evaluation(name: str) -> Evaluation:
    """The evaluation with this name: the entry's id, a colon, and the evaluation's label."""
    return next(one for one in evaluations() if one.name == name)


def verified(one: Evaluation) -> VerifiedQuote:
    """The genuine quote of an evaluation; raises EvidenceRejected where it is none."""
    return verify_quote(one.quote.read_bytes(), Collateral.parse(one.collateral.read_bytes()), one.anchor(), one.now)


def _evaluation(entry: dict[str, object], one: dict[str, object]) -> Evaluation:
    wanted = one["expected"]
    assert isinstance(wanted, dict)
    assert isinstance(one["now"], int)
    return Evaluation(
        name=f"{entry['id']}:{one['label']}",
        quote=FOLDER / str(entry["quote"]),
        collateral=FOLDER / str(entry["collateral"]),
        root=FOLDER / str(one.get("root_override") or entry["root"]),
        now=datetime.fromtimestamp(one["now"], UTC),
        expected=Expected(
            verified=wanted["crypto"] == "verified",
            tcb_status=wanted.get("tcb_status"),
            advisory_ids=tuple(sorted(wanted.get("advisory_ids") or ())),
            accepted=wanted["default_policy"] == "accept",
            reason=wanted["reason"],
        ),
    )
