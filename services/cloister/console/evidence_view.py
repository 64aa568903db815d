"""One worker's evidence, explained: the eight checks of an appraisal, the quote field by field, the claims. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from cloister.client import Judgement, QuoteField, quote_fields, status_meaning, step_meaning
from cloister.console.judged import Judged
from cloister.console.reasons import reason_words
from cloister.evidence.binding import Claims

STEPS: Final = 8
SHOWN_BYTES: Final = 96
POLICY: Final = 7
"""The check that code is wanted code; the trust bundle's pins, which are no step of their own, belong there."""
View = dict[str, Any]


def evidence_view(instance: str, judged: Judged) -> View:
    """What the page of a worker shows of its evidence."""
    found = judged.judgement
    return {
        "instance": instance,
        "simulated": found.anchor.simulated,
        "decision": _decision(found),
        "steps": [_step(found, number) for number in range(1, STEPS + 1)],
        "platform": _platform(found),
        "result": _result(judged),
        "claims": _claims(found.claims) if found.claims is not None else [],
        "fields": [_field(field, found) for field in quote_fields(judged.bundle.evidence.quote)],
        "quote_bytes": len(judged.bundle.evidence.quote),
    }


def _decision(found: Judgement) -> View:
    refusal = found.refusal
    return {
        "believed": found.believed,
        "why": "" if refusal is None else str(refusal),
        "reason": "" if refusal is None else refusal.reason,
        "reason_words": "" if refusal is None else reason_words(refusal.reason),
        "policy": found.policy_id,
        "pins_code": found.pins_code,
        "judged_at": _iso(found.judged_at),
    }


def _outcome(found: Judgement, number: int) -> str:
    """How a check went. They are made in the order 1 to 4, 6, 5, 7, 8; an objection leaves the rest unknown."""
    if found.believed:
        return "passed"
    order = (1, 2, 3, 4, 6, 5, 7, 8)
    objected = POLICY if found.refusal and found.refusal.reason.startswith("measurement.") else found.step or 0
    if objected not in order:  # none of the eight: they were passed, and the Result that came along was not believed
        return "passed" if found.verified is not None else "not made"
    at, mine = order.index(objected), order.index(number)
    return "passed" if mine < at else "objected" if mine == at else "not made"


def _step(found: Judgement, number: int) -> View:
    return {"number": number, "meaning": step_meaning(number), "outcome": _outcome(found, number)}


def _field(field: QuoteField, found: Judgement) -> View:
    shown = field.raw[:SHOWN_BYTES]
    return {
        "group": field.group,
        "name": field.name,
        "offset": field.offset,
        "size": len(field.raw),
        "hex": shown.hex(),
        "cut": len(field.raw) - len(shown),
        "value": field.value,
        "meaning": field.meaning,
        "check": field.check,
        "step": field.step,
        "outcome": _outcome(found, field.step) if field.step else "not checked",
    }


def _platform(found: Judgement) -> list[View]:
    """What the quote's signatures and Intel's tables say of the machine; nothing of a quote that is not genuine."""
    verified = found.verified
    if verified is None:
        return []
    tcb, endorsed = verified.tcb, verified.endorsed
    anchor = "a simulator's root, not Intel's: it proves nothing about hardware" if found.anchor.simulated else "Intel"
    return [
        _fact("Vouched for by", anchor),
        _fact("TCB status", f"{tcb.status.value}: {status_meaning(tcb.status.value)}"),
        _fact("Advisories", ", ".join(tcb.advisory_ids) or "none"),
        _fact("TCB date", f"{tcb.tcb_date.date()}: what Intel had disclosed by then is accounted for"),
        _fact("Platform family (FMSPC)", verified.platform.fmspc.hex()),
        _fact("Collateral", f"evaluation {endorsed.evaluation}, holds until {_iso(endorsed.valid_until)}"),
    ]


def _claims(claims: Claims) -> list[View]:
    """What the worker put under its quote, and why."""
    return [
        _fact("Speaks for", claims.spiffe_id, "Who it is in the mesh; the name changes with every start."),
        _fact("Made for", claims.audience, "The verifier that it answered. Evidence for another one is refused."),
        _fact("Challenge", claims.nonce.hex(), "The verifier's random number: the evidence cannot be an old one."),
        _fact("TLS key", claims.tls_spki_sha256.hex(), "SHA-256 of the key that it speaks TLS with."),
        _fact(
            f"Sealing key ({claims.hpke_suite})",
            f"{claims.hpke_public.hex()[:64]}… {len(claims.hpke_public)} bytes",
            "Clients seal requests to it. Its private half never leaves the enclave.",
        ),
        _fact("Receipt key (Ed25519)", claims.receipt_key.hex(), "It signs a receipt for every answer."),
        _fact("Configuration", claims.config_digest.hex(), "SHA-256 of the settings that it runs under."),
    ]


def _result(judged: Judged) -> list[View]:
    result = judged.result
    if result is None:
        return []
    return [
        _fact("Attestation Result", result.ear_id, "What the mesh's verifier signed about this evidence."),
        _fact("From", _iso(result.issued_at)),
        _fact("Until", _iso(result.expires_at), "Then the worker must show new evidence, or is out of the mesh."),
        _fact("Trust tier (AR4SI)", result.status, "'contraindicated' is what simulated hardware always gets."),
        _fact("Appraisal policy", f"{result.policy_id}, {result.policy_digest.hex()}"),
    ]


def _fact(name: str, value: str, meaning: str = "") -> View:
    return {"name": name, "value": value, "meaning": meaning}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
