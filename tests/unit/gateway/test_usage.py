"""What an operator sees of the limits."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import Overloaded
from cloister.gateway.admission import Admission
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.limits import Limits, ModelLimits, TenantLimits
from cloister.gateway.link import Link
from cloister.gateway.queues import FairQueue
from cloister.gateway.refusals import MAX_NAMES, Refusals
from cloister.gateway.tenants import Tenants
from cloister.gateway.usage import MAX_SHOWN, Usage
from fakes.gateway_parts import A, WorkerEnd, infer_request, unknown


async def test_who_waits_who_holds_what_and_who_was_refused() -> None:
    dispatcher = Dispatcher(Limits(ModelLimits(queue=9)), unknown)
    tenants = Tenants(Limits(TenantLimits(calls=3)), 1 << 20)
    admission = Admission(dispatcher, tenants, lambda *_: None)
    usage = Usage(dispatcher, tenants, admission)
    registry = CollectorRegistry()
    registry.register(usage)
    async with asyncio.TaskGroup() as group:
        worker, link = WorkerEnd(), Link(A, dispatcher)
        dispatcher.attach(link)
        linked = group.create_task(link.run(worker))
        worker.hello(1)
        await worker.heard()
        for tenant in ("ann", "ann", "ann", "bob"):
            admission.begin(infer_request(), tenant, 10)
        with pytest.raises(Overloaded):
            admission.begin(infer_request(), "ann", 10)
        (model,), (ann, bob) = list(usage.models()), list(usage.tenants())
        assert (model.model_name, model.queued, model.slots_used) == ("tiny", 3, 1)
        assert dict(model.refused) == {"tenant.busy": 1}
        assert (ann.spiffe_id, ann.under_way, ann.queued, dict(ann.refused)) == ("ann", 3, 2, {"tenant.busy": 1})
        assert (bob.spiffe_id, bob.under_way, bob.queued, dict(bob.refused)) == ("bob", 1, 1, {})
        page = generate_latest(registry).decode()
        assert 'cloister_model_queued{model="tiny"} 3.0' in page
        assert 'cloister_model_refused_total{model="tiny",reason="tenant.busy"} 1.0' in page
        assert "ann" not in page
        linked.cancel()


async def test_a_page_and_the_counts_are_bounded() -> None:
    dispatcher = Dispatcher(Limits(ModelLimits(queue=9)), unknown)
    tenants = Tenants(Limits(TenantLimits(calls=3)), 1 << 20)
    admission = Admission(dispatcher, tenants, lambda *_: None)
    for number in range(2 * MAX_NAMES):
        admission.refusals.note(Overloaded("full"), f"tenant-{number}", "")
    shown = list(Usage(dispatcher, tenants, admission).tenants())
    assert len(shown) == MAX_SHOWN
    assert (shown[0].spiffe_id, shown[0].refused["queue.full"]) == ("other", MAX_NAMES)
    assert len(admission.refusals.by_tenant) == MAX_NAMES + 1
    for number in range(2 * MAX_NAMES):
        admission.refusals.note(Overloaded("full"), "tenant-1", f"model-{number}")
    assert len(admission.refusals.by_model) == MAX_NAMES


def test_what_is_no_refusal_is_not_counted() -> None:
    refusals = Refusals()
    refusals.note(ValueError("no"), "ann", "tiny")  # type: ignore[arg-type]
    assert refusals.by_tenant == {}


async def test_a_queue_may_go_while_the_exporters_thread_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher = Dispatcher(Limits(ModelLimits(queue=9)), unknown)
    admission = Admission(dispatcher, Tenants(Limits(TenantLimits(calls=9)), 1 << 20), lambda *_: None)
    async with asyncio.TaskGroup() as group:
        worker, link = WorkerEnd(), Link(A, dispatcher)
        dispatcher.attach(link)
        linked = group.create_task(link.run(worker))
        worker.hello(1, *(ModelState(name=name, version="1") for name in ("one", "two")))
        await worker.heard()
        calls = [admission.begin(infer_request(name), "ann", 10) for name in ("one", "one", "two", "two")]
        length = FairQueue.__len__

        def interrupted(queue: FairQueue) -> int:
            """As if the event loop's thread ran just then."""
            monkeypatch.setattr(FairQueue, "__len__", length)
            admission.end(calls[1])
            return length(queue)

        assert dispatcher.queued == 2
        monkeypatch.setattr(FairQueue, "__len__", interrupted)
        assert dispatcher.queued == 1
        linked.cancel()
