"""A judgement of evidence in words for a person, and as plain values for a script.

What has not been proven is never shown as if it were: of a quote that is not genuine there is only what it says of
itself, and that is called so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from cloister.cli.output import facts, say, warn
from cloister.client import EvidenceFile, Judgement, Kind, quote_facts, status_meaning, step_meaning

BINDING: Final = 5  # number of the check that the quote is over what came with it

# What is objected to where evidence is genuine under some other root, and where it is only too late or too early.
_OTHER_ROOT: Final = frozenset({"anchor.untrusted", "chain.broken", "crl.issuer_mismatched"})
_OTHER_TIME: Final = frozenset({"certificate.expired", "collateral.expired", "crl.expired", "token.expired"})

_INSIDE: Final = {
    Kind.QUOTE: "",
    Kind.CERTIFICATE: "an RA-TLS certificate with ",
    Kind.BUNDLE: "an evidence bundle with ",
}


def print_judgement(evidence: EvidenceFile, found: Judgement) -> None:
    """Say what the evidence is, what is known of it, and whether it is believed."""
    quote = quote_facts(_raw_quote(evidence, found))
    if found.believed:
        say("the evidence is believed", "bold green")
    else:
        say("the evidence is NOT believed", "bold red")
    said = _said(quote or {})
    proven = _proven(found) | (said if found.verified else {})
    facts(
        {
            "what it is": _kind(evidence, found, quote),
            **_decision(found),
            **proven,
            **_dates(evidence, found),
            **_open(evidence, found),
        },
        indent="  ",
    )
    if said and found.verified is None:
        say("what it says of itself, which nothing proves:")
        facts(said, indent="  ")
    if found.verified and found.anchor.simulated:
        warn("It is under a simulator's root, as the trust bundle allows: it proves nothing about hardware.")
    _print_hint(found)


def _print_hint(found: Judgement) -> None:
    """What to try where evidence may be good, and was judged under another root, time or rule."""
    reason = found.refusal.reason if found.refusal else ""
    if reason in _OTHER_ROOT and not found.anchor.simulated:
        warn("Judged under Intel's root. Evidence from a simulator is judged by its mesh's trust bundle: --trust.")
    if reason in _OTHER_TIME:
        warn("Judged as of the time above. Evidence that was kept is judged as of the time it was made: --at.")
    if reason == "evidence.legacy":
        warn("Such a quote says nothing but the key, not even for whom; --allow-legacy-ra-tls judges it all the same.")


def plain_judgement(evidence: EvidenceFile, found: Judgement) -> dict[str, Any]:
    """The same for a script; `quote` is what the quote says, and proven only where `crypto` is `verified`."""
    verified, refusal = found.verified, found.refusal
    return {
        "believed": found.believed,
        "kind": evidence.kind.value,
        "crypto": "verified" if verified else "reject",
        "anchor": found.anchor.name,
        "simulated": found.anchor.simulated,
        "tcb_status": verified.tcb.status.value if verified else None,
        "tcb_date": _time(verified.tcb.tcb_date) if verified else None,
        "patched_to": _time(verified.tcb.patched_to) if verified else None,
        "tcb_evaluation": verified.evaluation if verified else None,
        "advisory_ids": list(verified.tcb.advisory_ids) if verified else None,
        "fmspc": verified.platform.fmspc.hex() if verified else None,
        "policy": found.policy_id,
        "judged_at": _time(found.judged_at),
        "step": found.step,
        "reason": refusal.reason if refusal else None,
        "message": str(refusal) if refusal else None,
        "spiffe_id": found.claims.spiffe_id if found.claims else None,
        "audience": found.claims.audience if found.claims else None,
        "attestation_result": _plain_result(found),
        "certificate": _plain_attester(found),
        "quote": quote_facts(_raw_quote(evidence, found)),
        "collateral": _plain_dates(found),
    }


def _raw_quote(evidence: EvidenceFile, found: Judgement) -> bytes:
    return evidence.raw_quote if found.attester is None else found.attester.raw_quote


def _kind(evidence: EvidenceFile, found: Judgement, quote: dict[str, object] | None) -> str:
    if evidence.kind is Kind.CERTIFICATE and found.attester is None:
        return "an RA-TLS certificate that was refused as such; no quote was looked at"
    size = f"{len(_raw_quote(evidence, found)):,} bytes"
    inside = _INSIDE[evidence.kind]
    if quote is None:
        return f"{inside}{size} that are no quote of a known kind"
    about = "an SGX enclave" if quote["tee"] == "sgx" else "a TDX trust domain"
    return f"{inside}a quote of {about}, version {quote['version']}, {size}"


def _decision(found: Judgement) -> dict[str, object]:
    by = f"policy '{found.policy_id}', at {_time(found.judged_at)}"
    if found.refusal is None:
        return {"decision": f"accepted under {by}, by two verifiers"}
    step = f"step {found.step}: " if found.step else ""
    return {
        "decision": f"refused under {by}",
        "why": str(found.refusal),
        "reason": found.refusal.reason,
        "not met": f"{step}{step_meaning(found.step or 0)}",
    }


def _proven(found: Judgement) -> dict[str, object]:
    """What a quote's signatures prove; of a quote that is not genuine, that nobody vouches for it."""
    verified = found.verified
    root = "a simulated root, not Intel's" if found.anchor.simulated else "Intel (its SGX root CA)"
    if verified is None:
        return {"vouched for by": f"nobody; only {root} would count"}
    status, tcb = verified.tcb.status.value, verified.tcb
    behind = {"furthest behind": f"patched to {tcb.patched_to.date()}; grace counts from then"}
    return {
        "vouched for by": root,
        "TCB status": f"{status}: {status_meaning(status)}",
        "advisories": ", ".join(verified.tcb.advisory_ids) or "none",
        "TCB date": f"{tcb.tcb_date.date()}: what Intel had disclosed by then is accounted for",
        **(behind if tcb.patched_to != tcb.tcb_date else {}),
        "platform": f"family (FMSPC) {verified.platform.fmspc.hex()}",
        **_claims(found),
        **_attester(found),
        **_result(found),
    }


def _claims(found: Judgement) -> dict[str, object]:
    if found.claims is None:
        return {}
    claims = found.claims
    return {
        "speaks for": claims.spiffe_id,
        "meant for": claims.audience,
        "sealing key": f"{claims.hpke_suite} {claims.hpke_public.hex()[:16]}...",
        "receipt key": f"Ed25519 {claims.receipt_key.hex()}",
    }


def _attester(found: Judgement) -> dict[str, object]:
    """What a certificate's quote is bound to, once the quote is found to be over it."""
    attester = found.attester
    if attester is None or found.verified is None or found.step == BINDING:
        return {}
    passed_over = {"passed over": f"claims {', '.join(attester.passed_over)}"} if attester.passed_over else {}
    return {
        "speaks for": f"the TLS key with SHA-256 {attester.spki_sha256.hex()}",
        "bound by": "the legacy extension: the key alone" if attester.legacy else "its claims",
        "nonce": attester.nonce.hex() if attester.nonce else "none: it may be of any age",
        **passed_over,
    }


def _result(found: Judgement) -> dict[str, object]:
    result = found.result
    if result is None:
        return {}
    return {
        "also found by": f"{result.issuer}, with the same findings",
        "its result": f"{result.ear_id}, from {_time(result.issued_at)} to {_time(result.expires_at)}",
    }


def _said(quote: dict[str, object]) -> dict[str, object]:
    shown = {name: value for name, value in quote.items() if name not in {"tee", "version", "padding_bytes"}}
    return {name: _worded(value) for name, value in shown.items()}


def _worded(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else value


def _dates(evidence: EvidenceFile, found: Judgement) -> dict[str, object]:
    """From when until when the collateral holds; where it is not believed, what it says of that."""
    if found.verified:
        endorsed = found.verified.endorsed
        span = f"holds from {_time(endorsed.valid_from)} to {_time(endorsed.valid_until)}"
        return {"collateral": f"{span}, evaluation {endorsed.evaluation}"}
    if evidence.kind is Kind.CERTIFICATE and found.attester is None:
        return {}
    if found.collateral is None:
        return {"collateral": "does not parse"}
    tcb_info = found.collateral.tcb_info
    return {"collateral": f"says it is of {_time(tcb_info.issue_date)}, to be renewed by {_time(tcb_info.next_update)}"}


def _open(evidence: EvidenceFile, found: Judgement) -> dict[str, object]:
    """What a judgement offline leaves open, so that nobody takes it for more."""
    code = {"code": "not judged: no measurement is named; compare it with one that you trust"}
    freshness = {"freshness": "not judged: nobody here sent the challenge it answers"}
    verifier = {"Attestation Result": "not judged: a trust bundle says whose signature counts; name it with --trust"}
    if not found.believed:
        return {}
    return {
        **({} if found.pins_code else code),
        **(verifier if evidence.kind is Kind.BUNDLE and found.result is None else {}),
        **({} if evidence.kind is Kind.QUOTE else freshness),
    }


def _plain_result(found: Judgement) -> dict[str, Any] | None:
    result = found.result
    if result is None:
        return None
    return {"id": result.ear_id, "issuer": result.issuer, "expires_at": _time(result.expires_at)}


def _plain_attester(found: Judgement) -> dict[str, Any] | None:
    attester = found.attester
    if attester is None:
        return None
    return {
        "tls_spki_sha256": attester.spki_sha256.hex(),
        "nonce": attester.nonce.hex() if attester.nonce is not None else None,
        "legacy": attester.legacy,
        "claims_passed_over": list(attester.passed_over),
    }


def _plain_dates(found: Judgement) -> dict[str, Any] | None:
    if found.collateral is None:
        return None
    tcb_info, qe_identity = found.collateral.tcb_info, found.collateral.qe_identity
    endorsed = found.verified.endorsed if found.verified else None
    return {
        "sha256": found.collateral.sha256.hex(),
        "tcb_info_issued": _time(tcb_info.issue_date),
        "tcb_info_next_update": _time(tcb_info.next_update),
        "qe_identity_issued": _time(qe_identity.issue_date),
        "qe_identity_next_update": _time(qe_identity.next_update),
        "valid_from": _time(endorsed.valid_from) if endorsed else None,
        "valid_until": _time(endorsed.valid_until) if endorsed else None,
    }


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
