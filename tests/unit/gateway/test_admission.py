"""A call's way in and out, and what is counted of it."""

from __future__ import annotations

import asyncio

import pytest

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelMetadataResponse
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import InvalidRequest, NotFound, Overloaded
from cloister.gateway.admission import Admission
from cloister.gateway.call import Call
from cloister.gateway.directory import Directory
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.limits import Limits, ModelLimits, TenantLimits, TenantTable
from cloister.gateway.link import Link
from cloister.gateway.tenant_file import TenantEntry, TenantsFile
from cloister.gateway.tenants import Tenants
from fakes.gateway_parts import TENANT, A, WorkerEnd, infer_request, model_state, unknown


class Desk:
    """An admission with one worker of one slot behind it, which never answers by itself."""

    def __init__(self, *, tenant_limit: int = 2, queue_limit: int = 8, directory: Directory | None = None) -> None:
        self.dispatcher = Dispatcher(Limits(ModelLimits(queue=queue_limit)), unknown)
        self.tenants = Tenants(Limits(TenantLimits(calls=tenant_limit)), 1 << 20)
        self.seen: list[tuple[str, str]] = []
        self.admission = Admission(self.dispatcher, self.tenants, self._note, directory)
        self.worker = WorkerEnd()
        self.link = Link(A, self.dispatcher)
        self.dispatcher.attach(self.link)

    def _note(self, outcome: str, call: Call | None) -> None:
        self.seen.append((outcome, call.route.model_name if call is not None and call.sent else ""))

    async def __aenter__(self) -> Desk:
        self._group = await asyncio.TaskGroup().__aenter__()
        self._task = self._group.create_task(self.link.run(self.worker))
        self.worker.hello(1)
        await self.worker.heard()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await self._group.__aexit__(None, None, None)


async def test_an_answered_call() -> None:
    async with Desk() as desk:
        call = desk.admission.begin(infer_request(), TENANT, 10)
        assert desk.tenants.under_way(TENANT) == 1
        await desk.worker.frame()
        desk.worker.answer(1)
        await call.answer
        desk.admission.end(call)
        assert desk.tenants.under_way(TENANT) == 0
        assert desk.seen == [("answered", "tiny")]
        assert (desk.admission.requests, desk.admission.failures) == (1, 0)


async def test_a_call_that_nobody_waits_for_gives_everything_back() -> None:
    async with Desk() as desk:
        sent, waiting = (desk.admission.begin(infer_request(), TENANT, 10) for _ in range(2))
        await desk.worker.frame()
        desk.admission.end(waiting)
        desk.admission.end(sent)
        assert list((await desk.worker.frame()).cancelled) == [1]
        assert (desk.dispatcher.queued, desk.tenants.under_way(TENANT)) == (0, 0)
        assert desk.seen == [("cancelled", ""), ("cancelled", "tiny")]
        assert (desk.admission.requests, desk.admission.failures) == (2, 2)


async def test_a_call_past_its_deadline_is_a_failure() -> None:
    async with Desk() as desk:
        call = desk.admission.begin(infer_request(), TENANT, 10)
        desk.link.expire(call.deadline_s)
        with pytest.raises(TimeoutError):
            await call.answer
        desk.admission.end(call)
        assert desk.seen == [("TimeoutError", "tiny")]


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_a_call_without_time_left_is_not_let_in(timeout_s: float) -> None:
    async with Desk() as desk:
        with pytest.raises(TimeoutError):
            desk.admission.begin(infer_request(), TENANT, timeout_s)
        assert (desk.link.used, desk.tenants.under_way(TENANT), desk.seen) == (0, 0, [("TimeoutError", "")])


async def test_a_request_that_cannot_fit_takes_no_slot_and_no_place_in_the_queue() -> None:
    async with Desk() as desk:
        await desk.worker.heard()
        bad = ModelInferRequest.FromString(infer_request())
        bad.inputs[0].shape[:] = [5]
        with pytest.raises(InvalidRequest, match=r"tensor 'x': 4 bytes of contents, the shape takes 5"):
            desk.admission.begin(bad.SerializeToString(), TENANT, 10)
        assert (desk.link.used, desk.dispatcher.queued, desk.tenants.under_way(TENANT)) == (0, 0, 0)
        assert desk.seen == [("InvalidRequest", "")]


async def test_a_sealed_request_is_held_against_nothing() -> None:
    async with Desk() as desk:
        sealed = ModelInferRequest.FromString(infer_request(workers=[A]))
        sealed.inputs[0].name = "cloister.sealed"
        call = desk.admission.begin(sealed.SerializeToString(), TENANT, 10)
        assert call.sent


async def test_a_request_without_a_version_is_held_against_the_one_it_would_go_to() -> None:
    async with Desk() as desk:
        other = ModelState.FromString(model_state("tiny", "2").SerializeToString())
        metadata = ModelMetadataResponse.FromString(other.metadata)
        metadata.inputs[0].name = "renamed"
        other.metadata = metadata.SerializeToString()
        desk.admission.begin(infer_request(), TENANT, 10)
        desk.worker.say(models_changed=True, models=[model_state("tiny", "1"), other])
        await desk.worker.heard()
        with pytest.raises(InvalidRequest, match="no input 'x'"):
            desk.admission.begin(infer_request(), TENANT, 10)
        desk.admission.begin(infer_request(version="1"), TENANT, 10)


async def test_what_is_refused_holds_nothing() -> None:
    async with Desk(tenant_limit=1, queue_limit=1) as desk:
        for request, kind in ((b"\xff", InvalidRequest), (infer_request("none"), NotFound)):
            with pytest.raises(kind):
                desk.admission.begin(request, TENANT, 10)
            assert desk.tenants.under_way(TENANT) == 0
        desk.admission.begin(infer_request(), TENANT, 10)
        with pytest.raises(Overloaded) as caught:
            desk.admission.begin(infer_request(), TENANT, 10)
        assert caught.value.reason == "tenant.busy"
        assert caught.value.retry_after_s > 0
        desk.admission.begin(infer_request(), "another", 10)
        with pytest.raises(Overloaded) as caught:
            desk.admission.begin(infer_request(), "a third", 10)
        assert caught.value.reason == "queue.full"
        assert desk.tenants.under_way("a third") == 0
        assert caught.value.retry_after_s > 0
        assert desk.seen == [("InvalidRequest", ""), ("NotFound", ""), ("Overloaded", ""), ("Overloaded", "")]
        assert desk.admission.refusals.by_model == {("tiny", "tenant.busy"): 1, ("tiny", "queue.full"): 1}
        assert desk.admission.refusals.by_tenant == {(TENANT, "tenant.busy"): 1, ("a third", "queue.full"): 1}
        assert (desk.admission.requests, desk.admission.failures) == (6, 4)


@pytest.mark.attack("I11")
async def test_a_call_counts_for_its_answer_too_as_far_as_answers_have_been_seen() -> None:
    async with Desk() as desk:
        call = desk.admission.begin(infer_request(), TENANT, 10)
        await desk.worker.frame()
        desk.worker.answer(1, bytes(1 << 18))
        await call.answer
        desk.admission.end(call)
        first = desk.admission.begin(infer_request(), TENANT, 10)
        assert first.held_bytes >= 1 << 18
        second = desk.admission.begin(infer_request(), "another", 10)
        with pytest.raises(Overloaded) as caught:
            desk.admission.begin(infer_request(tensor=bytes(1 << 18)), TENANT, 10)
        assert caught.value.reason == "tenant.busy"
        desk.admission.begin(infer_request(), "a third", 10)
        with pytest.raises(Overloaded) as caught:
            desk.admission.begin(infer_request(), "a fourth", 10)
        assert caught.value.reason == "gateway.full"
        desk.admission.end(first)
        desk.admission.end(second)
        desk.admission.begin(infer_request(), "a fourth", 10)


async def test_a_call_that_is_pushed_out_or_late_is_counted_as_refused() -> None:
    async with Desk(tenant_limit=9, queue_limit=2) as desk:
        sent, kept, pushed_out = (desk.admission.begin(infer_request(), "greedy", 10) for _ in range(3))
        modest = desk.admission.begin(infer_request(), "modest", 10)
        desk.dispatcher.expire(modest.deadline_s)
        for call in (sent, kept, pushed_out, modest):
            desk.admission.end(call)
        assert desk.admission.refusals.by_tenant == {
            ("greedy", "queue.full"): 1,
            ("greedy", "deadline.exceeded"): 1,
            ("modest", "deadline.exceeded"): 1,
        }


async def test_names_that_nobody_serves_are_counted_as_one() -> None:
    async with Desk(tenant_limit=1) as desk:
        desk.admission.begin(infer_request(), TENANT, 10)
        for number in range(50):
            with pytest.raises(Overloaded):
                desk.admission.begin(infer_request(f"m{number}"), TENANT, 10)
        assert desk.admission.refusals.by_model == {("other", "tenant.busy"): 50}


@pytest.mark.attack("J04")
async def test_a_model_that_a_tenant_may_not_see_leaves_the_traces_of_one_that_does_not_exist() -> None:
    """Other than its lane and its counts, nothing in the gateway could tell the two apart."""
    entry = TenantEntry(models=("none",), certificates=(TENANT,))
    directory = Directory("demo.cloister.internal", TenantsFile(tenants={"radiology": entry}))
    async with Desk(directory=directory, tenant_limit=9) as desk:
        for name in ("tiny", "unheard-of", "none"):
            for workers in ((), (A,)):
                with pytest.raises(NotFound, match="no such model"):
                    desk.admission.begin(infer_request(name, tensor=b"misfit", workers=workers), TENANT, 10)
        assert desk.seen == [("NotFound", "")] * 6
        assert desk.admission.counts.failed == {"radiology": 6}
        assert (desk.link.used, desk.dispatcher.queued, desk.tenants.busy()) == (0, 0, {})
        desk.tenants.use(Limits(TenantLimits(calls=9), {"radiology": TenantTable(rate=0.001)}))
        waits = set()
        for name in ("tiny", "unheard-of", "tiny", "unheard-of"):
            with pytest.raises((NotFound, Overloaded)) as raised:
                desk.admission.begin(infer_request(name), TENANT, 10)
            waits.add(round(getattr(raised.value, "retry_after_s", 0.0)))
        assert desk.admission.refusals.by_model == {("other", "tenant.too_fast"): 3}
        assert waits == {0, 1000}
