"""Dashboards and guides ask for metrics that exist, by labels that they have; panels and alerts name each other."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
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
FOLDER = ROOT / "deploy" / "observability"
DASHBOARDS = {board["uid"]: board for board in (json.loads(path.read_text()) for path in FOLDER.glob("grafana*.json"))}
PROMETHEUS = {"instance"}
"""Labels that a scrape adds."""
GUIDE = ROOT / "docs" / "guides" / "observing.md"
JOBS_GUIDE = ROOT / "docs" / "guides" / "running-jobs.md"


def shown() -> dict[str, set[str]]:
    """Every sample that a gateway shows once it has answered something, and the other services', with their labels."""
    metrics = Metrics()
    metrics.call_answered(Call("/a/b", "1"))
    metrics.workers.labels("false").set(1)
    use_verifier_and_provisioner(metrics)
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


def use_verifier_and_provisioner(metrics: Metrics) -> None:
    """One of everything that they count."""
    metrics.evidence_appraised(accepted=True, simulated=False)
    metrics.platform_addresses.labels("false").set(1)
    metrics.collateral_held("sgx", 1.0, revoked=0)
    metrics.collateral_refreshed("adopted")
    metrics.collateral_refused("collateral.older")
    metrics.witness_refused("log.forked")
    metrics.key_asked(released=True, simulated=False)


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


def panels() -> list[dict[str, Any]]:
    """Those of all dashboards."""
    return [panel for board in DASHBOARDS.values() for panel in board["panels"]]


def queries(panel: dict[str, Any]) -> list[str]:
    """What a panel asks."""
    return [target["expr"] for target in panel["targets"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The rules of alerts.yaml by name."""
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def guide() -> list[str]:
    """The queries of the guide: lines of its blocks that name a metric."""
    blocks = re.findall(r"```promql\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


def named_in(*texts: str) -> set[str]:
    """The metrics that queries name."""
    return {name for text in texts for name in re.findall(r"cloister_\w+", text)}


def cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    """The squares of the grid that a panel lies on."""
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def labels_in(query: str) -> set[str]:
    """The labels that a query selects or groups by."""
    grouped = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query)
    selected = re.findall(r'(\w+)=~?"', query)
    return {label.strip() for each in grouped for label in each.split(",") if label.strip()} | set(selected)


@pytest.mark.parametrize("query", sorted({*(query for panel in panels() for query in queries(panel)), *guide()}))
async def test_a_query_asks_for_what_there_is(query: str) -> None:
    known = shown()
    named = set(re.findall(r"cloister_\w+", query))
    assert named, "a query names a metric"
    assert named <= known.keys()
    assert labels_in(query) <= {label for name in named for label in known[name]} | PROMETHEUS


def test_each_alert_names_the_panel_that_shows_it_and_the_panel_names_the_alert() -> None:
    for name, rule in alerts().items():
        board, panel = rule["annotations"]["dashboard"].removeprefix("/d/").split("?viewPanel=")
        (shown,) = (each for each in DASHBOARDS[board]["panels"] if each["id"] == int(panel))
        assert name in {link["title"] for link in shown["links"]}
        assert named_in(rule["expr"]) & named_in(*queries(shown)), name


def test_each_link_of_a_panel_is_to_the_runbook_of_an_alert() -> None:
    links = [link for panel in panels() for link in panel.get("links", ())]
    assert {link["title"] for link in links} == alerts().keys()
    for link in links:
        assert link["url"] == f"${{runbooks}}#{link['title'].lower()}"
    for board in DASHBOARDS.values():
        assert "runbooks" in [variable["name"] for variable in board["templating"]["list"]]


@pytest.mark.parametrize("uid", sorted(DASHBOARDS))
def test_panels_have_numbers_of_their_own_and_do_not_overlap(uid: str) -> None:
    shown = DASHBOARDS[uid]["panels"]
    assert [panel["id"] for panel in shown] == list(range(1, len(shown) + 1))
    taken = [(x, y) for panel in shown for x, y in cells(panel["gridPos"])]
    assert len(taken) == len(set(taken))


async def test_every_metric_of_the_guide_exists() -> None:
    known = {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in shown()}
    named = set(re.findall(r"`(cloister_\w+)`", GUIDE.read_text() + JOBS_GUIDE.read_text()))
    assert len(named) > 20
    assert {name for name in named if name not in known} == set()
