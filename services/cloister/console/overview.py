"""The mesh on one page: what is known, as plain values for the browser. Pure.

What is wrong comes first, and by itself: a reader who sees no alarm has missed none. Everything that came over the wire
goes into JSON as text, and the page shows text as text.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cloister.api.v1.gateway_pb2 import ModelUse, WorkerStatus
from cloister.api.v1.provisioner_pb2 import ModelSummary
from cloister.client import AuditLine, status_meaning
from cloister.console.alarms import View, alarms
from cloister.console.event_words import event
from cloister.console.judged import Judged
from cloister.console.traffic import ModelName, Rate
from cloister.console.watch import Seen
from cloister.ear import AttestationResult
from cloister.errors import InvalidRequest
from cloister.kit.revocation import kind_of

MAX_EVENTS: Final = 100


def overview(seen: Seen, cluster: str, now: datetime) -> View:
    """All of it, as the page asks for it each second."""
    workers = _workers(seen, now)
    models = _models(seen, workers)
    events = _events(seen)
    revoked = [_revocation(each) for each in seen.revocations]
    status = seen.status
    return {
        "cluster": cluster,
        "asked_at": _iso(now),
        "simulated": any(worker["simulated"] for worker in workers),
        "alarms": list(alarms(seen, workers, models, revoked, now)),
        "services": [
            {
                "name": name,
                "address": service.address,
                "trouble": service.trouble,
                "answered_at": _iso(service.answered_at) if service.answered_at else None,
            }
            for name, service in seen.services.items()
        ],
        "workers": workers,
        "models": models,
        "events": events,
        "revocations": revoked,
        "requests": {
            "total": status.requests_total if status else None,
            "failed": status.requests_failed_total if status else None,
            "queued": status.queued if status else None,
            "process": status.process if status else 1,
            "processes": status.processes if status else 1,
        },
    }


def _workers(seen: Seen, now: datetime) -> list[View]:
    """Those the gateway knows, then those that only the verifier does."""
    known = {worker.instance: worker for worker in (seen.status.workers if seen.status else ())}
    leases = _leases(seen, now)
    names = [*sorted(known), *sorted(seen.evidence.keys() - known.keys())]
    return [_worker(name, known.get(name), seen.evidence.get(name), leases.get(name, [])) for name in names]


def _worker(instance: str, status: WorkerStatus | None, judged: Judged | None, leases: list[View]) -> View:
    result = judged.result if judged is not None else None
    until = _iso(result.expires_at) if result else _iso_ms(status.attested_until_ms) if status else None
    tcb = result.tcb_status if result else status.tcb_status if status else ""
    counters = status.counters if status is not None and status.HasField("counters") else None
    return {
        "instance": instance,
        "endpoint": status.endpoint if status else "",
        "state": _state(status),
        "simulated": bool(status and status.simulated) or bool(result and result.simulated),
        "belief": _belief(judged),
        "models": list(status.models) if status else [],
        "slots": status.slots if status else 0,
        "slots_used": status.slots_used if status else 0,
        "memory_bytes": counters.memory_bytes if counters else None,
        "answered": sum(model.requests for model in counters.models) if counters else None,
        "attested_until": until,
        "tcb_status": tcb,
        "tcb_words": status_meaning(tcb),
        "advisories": list(result.advisory_ids) if result else [],
        "anchor": _anchor(result.anchor, result.simulated) if result else "",
        "tee": result.tee if result else status.tee if status else "",
        "measurement": _measurement(status, result),
        "leases": leases,
    }


def _measurement(status: WorkerStatus | None, result: AttestationResult | None) -> str:
    """Of the enclave or the trust domain; from the gateway only where no Result is here."""
    if result is not None:
        return result.measurement
    return "" if status is None else status.td_measurement or status.mrenclave


def _state(status: WorkerStatus | None) -> str:
    if status is None:
        return "unknown to the gateway"
    if status.draining:
        return "draining"
    if not status.linked:
        return "no link"
    return "serving" if status.models else "no model yet"


def _belief(judged: Judged | None) -> View:
    """What our own judgement says; None for `believed` where there is no evidence to judge."""
    if judged is None:
        return {"believed": None, "why": "no evidence is here to judge", "reason": ""}
    refusal = judged.judgement.refusal
    if refusal is None:
        return {"believed": True, "why": "", "reason": ""}
    return {"believed": False, "why": str(refusal), "reason": refusal.reason}


def _anchor(name: str, simulated: bool) -> str:
    return "a simulator's root, which proves nothing about hardware" if simulated else f"Intel's root ({name})"


def _leases(seen: Seen, now: datetime) -> dict[str, list[View]]:
    """By instance, the last release of each model; one that has ended is left out."""
    last: dict[tuple[str, str], tuple[datetime, AuditLine]] = {}
    for line in seen.releases:
        if line.content.get("event") == "key.released" and (ends_at := _lease_end(line)) is not None:
            about = f"{line.content.get('model')}@{line.content.get('version')}"
            last[str(line.content.get("instance")), about] = ends_at, line
    found: dict[str, list[View]] = {}
    for (instance, model), (ends_at, _) in sorted(last.items()):
        if ends_at > now:
            found.setdefault(instance, []).append({"model": model, "until": _iso(ends_at)})
    return found


def _lease_end(line: AuditLine) -> datetime | None:
    try:
        released = datetime.fromisoformat(str(line.content["time"]))
        return released.astimezone(UTC) + timedelta(seconds=float(line.content["lease_s"]))
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _models(seen: Seen, workers: list[View]) -> list[View]:
    """Models that are served, or that an owner has registered."""
    use = {each.model_name: each for each in (seen.status.models if seen.status else ())}
    serving = Counter(model for worker in workers if worker["state"] == "serving" for model in worker["models"])
    registered = {f"{model.name}@{model.version}": model for model in seen.models}
    names = sorted(serving.keys() | registered.keys())
    return [_model(seen, name, use, serving[name], registered.get(name)) for name in names]


def _model(seen: Seen, name: str, use: dict[str, ModelUse], workers: int, registered: ModelSummary | None) -> View:
    base, _, version = name.rpartition("@")
    series = ModelName(base, version)
    points = seen.traffic.series().get(series, ())
    used = use.get(base)
    return {
        "name": base,
        "version": version,
        "workers": workers,
        "registered": registered is not None,
        "withdrawn": _withdrawn(registered),
        "held": registered is not None and registered.held_since > 0,
        "answered": seen.traffic.answered(series),
        "now": _rate(seen.traffic.rate(series)),
        "points": [_rate(point) for point in points],
        "waiting": used.queued if used else 0,
        "under_way": used.slots_used if used else 0,
        "refused": dict(used.refused) if used else {},
    }


def _withdrawn(model: ModelSummary | None) -> str:
    """By whom and why; empty for what is not withdrawn."""
    if model is None or not model.HasField("withdrawal"):
        return ""
    return f"{model.withdrawal.by}: {model.withdrawal.reason}"


def _rate(rate: Rate) -> View:
    return {
        "per_second": round(rate.per_second, 2),
        "p50_ms": None if rate.p50_ms is None else round(rate.p50_ms, 3),
        "p99_ms": None if rate.p99_ms is None else round(rate.p99_ms, 3),
    }


def _events(seen: Seen) -> list[View]:
    """Both records, newest first."""
    told = [event(line, "releases") for line in seen.releases] + [event(line, "appraisals") for line in seen.appraisals]
    return sorted(told, key=lambda each: (str(each["time"]), each["sequence"]), reverse=True)[:MAX_EVENTS]


def _revocation(each: Any) -> View:
    try:
        kind = kind_of(each.kind).value
    except InvalidRequest:
        kind = "something unknown"
    return {"kind": kind, "value": each.value, "reason": each.reason, "by": each.by, "at": _iso_ms(each.revoked_at_ms)}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _iso_ms(unix_ms: int) -> str | None:
    """None for a time that no calendar has."""
    try:
        return _iso(datetime.fromtimestamp(unix_ms / 1000, UTC))
    except (ValueError, OverflowError, OSError):
        return None
