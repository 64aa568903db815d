"""What somebody should look at: alarms for the page, as plain values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from cloister.client import AuditLine
from cloister.console.event_words import BAD, WARN
from cloister.console.reasons import reason_words
from cloister.console.watch import Seen

RECENT: Final = timedelta(minutes=15)
ENDING: Final = timedelta(seconds=60)
WITNESSED_WITHIN: Final = timedelta(seconds=10)
"""As long as the provisioner goes on without its witness."""
View = dict[str, Any]


def alarms(
    seen: Seen, workers: list[View], models: list[View], revocations: list[View], now: datetime
) -> Iterator[View]:
    """What somebody should look at, the gravest first; all but `seen` as the page has it."""
    for name, service in seen.services.items():
        if service.trouble:
            yield _alarm(BAD, f"The {name} does not answer as it should: {service.trouble}.")
    for worker in workers:
        if worker["belief"]["believed"] is False:
            words = f"Worker {worker['instance'][:8]} is not believed by this console: {worker['belief']['why']}."
            yield _alarm(BAD, words, worker["instance"])
    yield from _refusals(seen, now)
    yield from _witness(seen, now)
    for model in models:
        yield from _unserved(model)
    yield from _states(workers, now)
    for revoked in revocations:
        yield _alarm(WARN, f"Revoked: {revoked['kind']} {revoked['value'][:16]} ({revoked['reason']}).")


def _witness(seen: Seen, now: datetime) -> Iterator[View]:
    if seen.witnessed is None:
        return
    before = (now - WITNESSED_WITHIN).isoformat()
    behind = [line for line in seen.releases if line.sequence > seen.witnessed and str(line.content["time"]) < before]
    if behind:
        words = (
            f"The verifier has not countersigned the record of keys since line {seen.witnessed}: nothing is released."
        )
        yield _alarm(BAD, words)


def _unserved(model: View) -> Iterator[View]:
    """Nobody serves what is withdrawn or held, and that is somebody's will; or it ought to be served."""
    named = f"{model['name']}@{model['version']}"
    if model["withdrawn"]:
        yield _alarm(WARN, f"{named} is withdrawn by {model['withdrawn']}.")
    elif model["held"]:
        yield _alarm(WARN, f"{named} is held until its owner signs a policy anew: an older state was resumed.")
    elif not model["workers"]:
        yield _alarm(BAD, f"{named} is registered, and no worker serves it.")


def _refusals(seen: Seen, now: datetime) -> Iterator[View]:
    """Those of the last minutes that were not followed by the opposite: what was mended since is in the events."""
    since = (now - RECENT).isoformat()
    for lines, kinds, what in (
        (seen.releases, ("key.refused", "key.released"), "Key refused to"),
        (seen.appraisals, ("evidence.rejected", "evidence.accepted"), "Evidence not believed of"),
    ):
        last: dict[tuple[str, str], AuditLine] = {}
        for number, line in enumerate(lines):
            if line.content.get("event") in kinds:
                whose = str(line.content.get("instance") or number), str(line.content.get("model", ""))
                last[whose] = line
        standing = [line.content for line in last.values() if line.content.get("event") == kinds[0]]
        recent = Counter(str(each.get("reason", "")) for each in standing if str(each.get("time", "")) >= since)
        for reason, count in recent.most_common():
            who = "a worker" if count == 1 else f"{count} workers"
            yield _alarm(BAD, f"{what} {who} within 15 minutes: {reason_words(reason)}.")


def _states(workers: list[View], now: datetime) -> Iterator[View]:
    if not workers:
        yield _alarm(WARN, "No worker is attested: nothing can be answered.")
    for worker in workers:
        name = f"Worker {worker['instance'][:8]}"
        if worker["state"] == "draining":
            yield _alarm(WARN, f"{name} is draining: it finishes what is under way and takes nothing new.", worker)
        elif worker["state"] != "serving":
            yield _alarm(WARN, f"{name} serves nothing: {worker['state']}.", worker)
        if worker["attested_until"] and datetime.fromisoformat(worker["attested_until"]) - now < ENDING:
            yield _alarm(WARN, f"{name} has less than a minute of its attestation left.", worker)
        if worker["tcb_status"] not in ("", "UpToDate"):
            yield _alarm(WARN, f"{name}: TCB {worker['tcb_status']}, {worker['tcb_words']}.", worker)


def _alarm(tone: str, words: str, worker: View | str | None = None) -> View:
    instance = worker["instance"] if isinstance(worker, dict) else worker
    return {"tone": tone, "words": words, "instance": instance}
