"""Every metric of the services outside the enclave, named once, with units and small fixed label sets.

The worker does not import this: it reports plain numbers to the gateway over its link. Label values that a peer can
choose are counted up to a limit, after which they are `other`.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cloister.kit.calls import Call

_OTHER: Final = "other"
_MAX_VALUES: Final = 100
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one process, in a registry of its own.

    Attributes:
        registry: What the exporter shows.
        queued: Gateway: requests that wait for a slot. Verifier: evidence that waits for its turn.
        workers: Gateway and verifier: attested workers, by whether their anchor is simulated.
        platform_addresses: Verifier: most addresses that workers of one platform are attested at.
        slots: Gateway: slots that workers have granted.
        slots_used: Gateway: slots with a call under way.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("cloister_calls_total", "Calls answered.", ("method", "code"), registry=self.registry)
        self._seconds = Histogram(
            "cloister_call_seconds", "Time to answer a call.", ("method",), buckets=_SECONDS, registry=self.registry
        )
        self._appraisals = Counter(
            "cloister_appraisals_total",
            "Evidence appraised, by whether the anchor that it is held against is simulated.",
            ("outcome", "reason", "simulated"),
            registry=self.registry,
        )
        self._disagreements = Counter(
            "cloister_verifier_disagreements_total",
            "Quotes on which the two verifiers disagreed; each one is an alarm.",
            registry=self.registry,
        )
        self._state_refusals = Counter(
            "cloister_state_refusals_total",
            "Records in shared state that were not as they must be; each one is an alarm.",
            ("reason",),
            registry=self.registry,
        )
        self._witness_refusals = Counter(
            "cloister_witness_refusals_total",
            "Verifier: heads of the provisioner's log that were not countersigned. Provisioner: answers that said so.",
            ("reason",),
            registry=self.registry,
        )
        self.witness_lag = Gauge(
            "cloister_witness_lag_lines",
            "Provisioner: lines that a majority of witnesses has not countersigned yet.",
            registry=self.registry,
        )
        self._keys = Counter(
            "cloister_keys_total",
            "Model keys asked for, by whether by simulated hardware; empty where nobody knows.",
            ("outcome", "reason", "simulated"),
            registry=self.registry,
        )
        self._shares = Counter(
            "cloister_recovery_shares_refused_total",
            "Provisioner: shares of its recovery key that were given and not taken.",
            ("reason",),
            registry=self.registry,
        )
        self.workers = Gauge("cloister_workers", "Workers attested now.", ("simulated",), registry=self.registry)
        self.platform_addresses = Gauge(
            "cloister_platform_addresses",
            "Verifier: most addresses that workers of one platform are attested at.",
            ("simulated",),
            registry=self.registry,
        )
        self.queued = Gauge("cloister_queued", "Requests that wait their turn.", registry=self.registry)
        self.slots = Gauge("cloister_slots", "Slots granted by workers.", registry=self.registry)
        self.slots_used = Gauge("cloister_slots_used", "Slots with a call under way.", registry=self.registry)
        self._collateral_until = Gauge(
            "cloister_collateral_valid_until_seconds",
            "When the collateral of a platform family ends, in seconds since 1970.",
            ("family",),
            registry=self.registry,
        )
        self._revoked = Gauge(
            "cloister_collateral_revoked_platforms",
            "Entries of the revocation list for a platform family.",
            ("family",),
            registry=self.registry,
        )
        self._collateral_expiring = Gauge(
            "cloister_collateral_expiring",
            "Platform families whose collateral ends within ten days or has ended; above 0 is an alarm.",
            registry=self.registry,
        )
        self._from_future = Gauge(
            "cloister_collateral_from_future",
            "Whether collateral is dated after this machine's clock; 1 is an alarm.",
            registry=self.registry,
        )
        self._refreshes = Counter(
            "cloister_collateral_refreshes_total", "Collateral asked for.", ("outcome",), registry=self.registry
        )
        self._collateral_refusals = Counter(
            "cloister_collateral_refusals_total",
            "Collateral that was offered and did not come into force.",
            ("reason",),
            registry=self.registry,
        )
        self._lag = Histogram(
            "cloister_loop_lag_seconds",
            "How late the event loop came to a timer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._known: dict[str, set[str]] = {}
        self._ended: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def call_answered(self, call: Call) -> None:
        """For `Server.mtls(on_call=...)`."""
        found = self._ended.get((call.method, call.code))
        if found is None:  # looking labels up costs more than counting
            method = self._limited("method", call.method)
            found = self._calls.labels(method, call.code), self._seconds.labels(method)
            if method == call.method:
                self._ended[call.method, call.code] = found
        counter, histogram = found
        counter.inc()
        histogram.observe(call.seconds)

    def evidence_appraised(self, *, accepted: bool, simulated: bool, reason: str = "") -> None:
        """One appraisal, believed or not, under an anchor that is simulated or not."""
        outcome = "accepted" if accepted else "rejected"
        self._appraisals.labels(outcome, self._limited("appraisal", reason), _flag(simulated)).inc()

    def verifiers_disagreed(self) -> None:
        """Our verifier and the library came to different ends about the same bytes."""
        self._disagreements.inc()

    def loop_lagged(self, seconds: float) -> None:
        """For `lag.watching`."""
        self._lag.observe(seconds)

    def state_refused(self, reason: str) -> None:
        """Something in Redis was forged, malformed or missing."""
        self._state_refusals.labels(self._limited("state", reason)).inc()

    def witness_refused(self, reason: str) -> None:
        """A head of the provisioner's log was not countersigned."""
        self._witness_refusals.labels(self._limited("witness", reason)).inc()

    def key_asked(self, *, released: bool, simulated: bool | None, reason: str = "") -> None:
        """One key released or refused; None where no result said what asked for it."""
        outcome = "released" if released else "refused"
        self._keys.labels(outcome, self._limited("key", reason), _flag(simulated)).inc()

    def share_refused(self, reason: str) -> None:
        """A share of the recovery key was not taken."""
        self._shares.labels(self._limited("share", reason)).inc()

    def collateral_held(self, family: str, valid_until: float, *, revoked: int) -> None:
        """What is in force for a platform family; `valid_until` in seconds since 1970."""
        label = self._limited("family", family)
        self._collateral_until.labels(label).set(valid_until)
        self._revoked.labels(label).set(revoked)

    def collateral_watched(self, *, expiring: int, from_future: bool) -> None:
        """How many families are near their end, and whether a clock is wrong."""
        self._collateral_expiring.set(expiring)
        self._from_future.set(from_future)

    def collateral_refreshed(self, outcome: str) -> None:
        """One family asked for: `adopted`, `unchanged`, `refused`, or `failed` where there was no answer."""
        self._refreshes.labels(outcome).inc()

    def collateral_refused(self, reason: str) -> None:
        """Something that a file or a source offered is not in force."""
        self._collateral_refusals.labels(self._limited("collateral", reason)).inc()

    def _limited(self, label: str, value: str) -> str:
        known = self._known.setdefault(label, set())
        if value in known:
            return value
        if len(known) >= _MAX_VALUES:
            return _OTHER
        known.add(value)
        return value


def _flag(said: bool | None) -> str:
    return "" if said is None else str(said).lower()
