"""Dashboard and guide ask for metrics that exist, by labels that they have."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cloister.api.v1.worker_pb2 import ModelCounters, WorkerCounters
from cloister.errors import Overloaded
from cloister.gateway.admission import Admission
from cloister.gateway.dispatch import Dispatcher
from cloister.gateway.jobs.job import Accepted, QueueCounts
from cloister.gateway.jobs.metrics import JobMetrics
from cloister.gateway.jobs.store_watch import StoreWatch
from cloister.gateway.limits import Limits, ModelLimits, TenantLimits
from cloister.gateway.metrics import RequestMetrics
from cloister.gateway.tenants import Tenants
from cloister.gateway.usage import Usage
from cloister.gateway.worker_metrics import WorkerMetrics
from cloister.gateway.worker_times import worker_times
from cloister.kit.calls import Call
from cloister.kit.metrics import Metrics
from fakes.gateway_parts import TENANT, A, make_call, report, unknown
from fakes.job_store import MemoryJobStore, Shelf

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy" / "observability" / "grafana.json"
GUIDE = ROOT / "docs" / "guides" / "observing.md"
JOBS_GUIDE = ROOT / "docs" / "guides" / "running-jobs.md"


def shown() -> dict[str, set[str]]:
    """Every sample that a gateway shows once it has answered something, and a provisioner's, with their labels."""
    metrics = Metrics()
    metrics.key_asked(released=True, simulated=False)
    metrics.call_answered(Call("/a/b", "1"))
    metrics.workers.labels("false").set(1)
    requests = RequestMetrics(metrics, lambda *_: True)
    call = make_call()
    call.sent, call.left_s, call.back_s, call.ended_s = True, call.began_s, call.began_s, call.began_s
    (call.worker_time,) = worker_times(report())
    requests.request_ended("answered", call)
    told = WorkerCounters(memory_bytes=1, models=[ModelCounters(name="tiny", version="1", evaluations=1, batches=[1])])
    link = SimpleNamespace(counters=told, models={"tiny": {"1": None}})
    member = SimpleNamespace(link=link, worker=SimpleNamespace(instance=A, simulated=False))
    WorkerMetrics(metrics, cast(Any, SimpleNamespace(members=[member])))
    metrics.registry.register(usage())
    register_jobs(metrics)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def usage() -> Usage:
    """What there is of the limits, once a request has been answered and one been refused."""
    dispatcher, tenants = Dispatcher(Limits(ModelLimits(queue=1)), unknown), Tenants(Limits(TenantLimits(calls=1)), 1)
    admission = Admission(dispatcher, tenants, lambda *_: None)
    tenants.enter(TENANT, 1, 0.0)
    admission.counts.ended(TENANT, answered=True)
    admission.refusals.note(Overloaded("full"), TENANT, "tiny")
    return Usage(dispatcher, tenants, admission)


def register_jobs(metrics: Metrics) -> None:
    """What there is of jobs, once one was submitted, tried and answered."""
    metrics.state_refused("record.forged")
    stores = StoreWatch(MemoryJobStore(Shelf(), lambda: 0), lambda: asyncio.sleep(0))
    stores.queues = {"tiny": QueueCounts(model_name="tiny", waiting=1, running=0, size_bytes=1, oldest_s=0, dead=0)}
    jobs = JobMetrics(metrics, stores)
    jobs.held = lambda: {"tiny": 1}
    jobs.submitted("tiny", Accepted(bytes(16)))
    jobs.attempted("tiny", "answered")
    jobs.ended("tiny", None)


def dashboard() -> list[str]:
    """The queries of the dashboard."""
    content = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in content["panels"] for target in panel["targets"]]


def guide() -> list[str]:
    """The queries of the guide: lines of its blocks that name a metric."""
    blocks = re.findall(r"```promql\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


def labels_in(query: str) -> set[str]:
    """The labels that a query selects or groups by."""
    grouped = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query)
    selected = re.findall(r'(\w+)=~?"', query)
    return {label.strip() for each in grouped for label in each.split(",") if label.strip()} | set(selected)


@pytest.mark.parametrize("query", [*dashboard(), *guide()])
async def test_a_query_asks_for_what_there_is(query: str) -> None:
    known = shown()
    named = set(re.findall(r"cloister_\w+", query))
    assert named, "a query names a metric"
    assert named <= known.keys()
    assert labels_in(query) <= {label for name in named for label in known[name]}


async def test_every_metric_of_the_guide_exists() -> None:
    known = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in shown()}
    named = set(re.findall(r"`(cloister_\w+)`", GUIDE.read_text() + JOBS_GUIDE.read_text()))
    assert len(named) > 20
    assert {name for name in named if name not in known} == set()
