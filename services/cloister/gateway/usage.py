"""What an operator sees of the limits: who waits, who holds what, who was refused and why.

By model on the metrics page, which is in clear; by tenant too in GetStatus, which only operators may call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister.api.v1 import gateway_pb2
from cloister.gateway.admission import Admission
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.tenants import Tenants

MAX_SHOWN: Final = 100
"""Models, and tenants, of one answer or page; of tenants, those with the most under way or refused."""


class Usage(Collector):
    """Reads what the others count; costs a request nothing."""

    def __init__(self, dispatcher: Dispatcher, tenants: Tenants, admission: Admission) -> None:
        self._dispatcher = dispatcher
        self._tenants = tenants
        self._refusals = admission.refusals

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
        """Yield what there is of each tenant that has something under way, or was refused something."""
        busy, refused, waiting = self._tenants.busy(), _by_name(self._refusals.by_tenant), self._waiting()
        names = sorted(busy.keys() | refused.keys())
        names.sort(key=lambda name: (busy.get(name, 0), sum(refused.get(name, {}).values())), reverse=True)
        for name in names[:MAX_SHOWN]:
            yield gateway_pb2.TenantUse(
                spiffe_id=name,
                under_way=busy.get(name, 0),
                queued=waiting.get(name, 0),
                refused=refused.get(name, {}),
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
        return (queued, slots, held, refused)

    def _waiting(self) -> dict[str, int]:
        waiting: dict[str, int] = {}
        for lane in self._dispatcher.lanes.values():
            for tenant, count in lane.waiting.by_tenant():
                waiting[tenant] = waiting.get(tenant, 0) + count
        return waiting


def _by_name(counts: dict[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (name, reason), count in list(counts.items()):  # in one step: the exporter's thread asks too
        found.setdefault(name, {})[reason] = count
    return found
