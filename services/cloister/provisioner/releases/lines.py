"""What lines about releases and refusals tell: of the worker, and for the owner of every rule that objected."""

from __future__ import annotations

from cloister.ear import AttestationResult
from cloister.errors import CloisterError, KeyRefused
from cloister.kit.result_facts import code_facts


def result_facts(result: AttestationResult) -> dict[str, str | int | bool]:
    """The worker that a result speaks of."""
    return {
        "instance": result.instance,
        "ear_id": result.ear_id,
        **code_facts(result),
        "tcb_status": result.tcb_status,
        "ppid_sha256": result.ppid_sha256,
        "anchor": result.anchor,
        "simulated": result.simulated,
    }


def objections(refusal: CloisterError) -> dict[str, list[str]]:
    """Every rule that objected, with what it demanded and found; nothing where none was asked."""
    found = refusal.objections if isinstance(refusal, KeyRefused) else ()
    return {"objections": list(found)} if found else {}
