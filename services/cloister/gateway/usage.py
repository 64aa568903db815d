"""What an operator sees of the limits: who waits, who holds what, who was refused and why.

By model and by tenant, on the metrics page and in GetStatus, which operators and auditors may call. The page is in
clear: on it a tenant has the name that the tenants file gives it, and whoever is not in that file is counted under
`other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister.api.v1 import gateway_pb2
from cloister.gateway.admission import Admission
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.refusals import OTHER
from cloister.gateway.tenants import Tenants

MAX_SHOWN: Final = 100
"""Models, and tenants, of one answer or page; of tenants, those with the most under way or refused."""


class Usage(Collector):
    """Reads what the others count; costs a request nothing."""

    def __init__(self, dispatcher: Dispatcher, tenants: Tenants, admission: Admission) -> None:
        self._dispatcher = dispatcher
        self._tenants = tenants
        self._refusals = admission.refusals
        self._counts = admission.counts
        self._directory = admission.directory

    def models(self) -> Iterator[gateway_pb2.ModelUse]:
        """Yield what there is of each model."""
        refused = _by_name(self._refusals.by_model)
        for name in sorted(self._dispatcher.lanes.keys() | refused.keys())[:MAX_SHOWN]:
            lane = self._dispatcher.lanes.get(name)
            yield gateway_pb2.ModelUse(
                model_name=name,
                queued=len(lane.waiting) if lane is not None else 0,
                slots_used=lane.at_workers if lane is not None else 0,
                slot_ms=lane.held_s * 1000 if lane is not None else 0.0,
                refused=refused.get(name, {}),
            )

    def tenants(self) -> Iterator[gateway_pb2.TenantUse]:
        """Yield what there is of each tenant that has asked something; those with most under way or refused first."""
        busy, refused, waiting = self._tenants.busy(), _by_name(self._refusals.by_tenant), self._waiting()
        answered, failed = self._counts.answered, self._counts.failed
        names = sorted(busy.keys() | refused.keys() | answered.keys() | failed.keys())
        names.sort(key=lambda name: (busy.get(name, 0), sum(refused.get(name, {}).values())), reverse=True)
        for name in names[:MAX_SHOWN]:
            yield gateway_pb2.TenantUse(
                tenant=name,
                spiffe_id="" if name in self._directory.names else name,
                under_way=busy.get(name, 0),
                queued=waiting.get(name, 0),
                refused=refused.get(name, {}),
                answered_total=answered.get(name, 0),
                failed_total=failed.get(name, 0),
            )

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        queued = GaugeMetricFamily("cloister_model_queued", "Requests that wait for a slot.", labels=["model"])
        slots = GaugeMetricFamily("cloister_model_slots_used", "Slots that a model's calls hold.", labels=["model"])
        held = GaugeMetricFamily("cloister_model_slot_seconds", "How long a call holds its slot.", labels=["model"])
        refused = CounterMetricFamily("cloister_model_refused", "Requests refused.", labels=["model", "reason"])
        for model in self.models():
            queued.add_metric([model.model_name], model.queued)
            slots.add_metric([model.model_name], model.slots_used)
            held.add_metric([model.model_name], model.slot_ms / 1000)
            for reason, count in model.refused.items():
                refused.add_metric([model.model_name, reason], count)
        return (queued, slots, held, refused, *self._of_tenants())

    def _of_tenants(self) -> Iterable[Metric]:
        """The same by tenant: those that the tenants file names, as many as are shown, and all others as one."""
        busy = GaugeMetricFamily("cloister_tenant_under_way", "Requests without an answer.", labels=["tenant"])
        ended = CounterMetricFamily("cloister_tenant_requests", "Requests that ended.", labels=["tenant", "outcome"])
        refused = CounterMetricFamily("cloister_tenant_refused", "Requests refused.", labels=["tenant", "reason"])
        shown = self._directory.shown(MAX_SHOWN)
        for tenant, count in _merged(self._tenants.busy(), shown).items():
            busy.add_metric([tenant], count)
        for outcome, counts in (("answered", self._counts.answered), ("failed", self._counts.failed)):
            for tenant, count in _merged(counts, shown).items():
                ended.add_metric([tenant, outcome], count)
        for tenant, reasons in _by_name(self._refusals.by_tenant, shown).items():
            for reason, count in reasons.items():
                refused.add_metric([tenant, reason], count)
        return (busy, ended, refused)

    def _waiting(self) -> dict[str, int]:
        waiting: dict[str, int] = {}
        for lane in self._dispatcher.lanes.values():
            for tenant, count in lane.waiting.by_tenant():
                waiting[tenant] = waiting.get(tenant, 0) + count
        return waiting


def _by_name(counts: dict[tuple[str, str], int], shown: frozenset[str] | None = None) -> dict[str, dict[str, int]]:
    """Counts by name, then by reason; names that are not to be shown, if given, are one."""
    found: dict[str, dict[str, int]] = {}
    for (name, reason), count in list(counts.items()):  # in one step: the exporter's thread asks too
        reasons = found.setdefault(name if shown is None or name in shown else OTHER, {})
        reasons[reason] = reasons.get(reason, 0) + count
    return found


def _merged(counts: Mapping[str, int], shown: frozenset[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, count in list(counts.items()):
        label = name if name in shown else OTHER
        found[label] = found.get(label, 0) + count
    return found
