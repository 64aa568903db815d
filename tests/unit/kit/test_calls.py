"""The role table, time limits, and the metrics of calls; whole calls are in tests/wire/rpc."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import generate_latest

from cloister.errors import InvalidRequest, Unauthenticated
from cloister.kit.calls import Call, RoleTable, current_peer
from cloister.kit.exporter import exporter
from cloister.kit.metrics import Metrics
from cloister.kit.overdue import Overdue


def test_a_methods_own_entry_wins_over_its_services() -> None:
    table = RoleTable({"a.B": {"owner"}, "/a.B/Put": {"auditor"}, "/a.B/Shut": set()})
    assert table.of("/a.B/Get") == {"owner"}
    assert table.of("/a.B/Put") == {"auditor"}
    assert table.of("/a.B/Shut") == frozenset()


@pytest.mark.parametrize("method", ["/a.C/Get", "/a.B.C/Get", "", "/", "a.B", "/A.b/Get"])
def test_what_is_not_in_the_table_is_open_to_nobody(method: str) -> None:
    assert RoleTable({"/a.B/Put": {"auditor"}}).of(method) == frozenset()


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="does not exist"):
        RoleTable({"a.B": {"admin"}})


def test_outside_a_call_there_is_no_peer() -> None:
    with pytest.raises(Unauthenticated):
        current_peer()


async def test_a_limit_cancels_and_is_told_from_another_cancellation() -> None:
    overdue = Overdue(tick_s=0.001)
    seen: list[BaseException] = []

    async def waiting(limit_s: float) -> None:
        call = object()
        overdue.watch(call, limit_s)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            seen.append(overdue.judge(call, error))
            if not isinstance(seen[-1], TimeoutError):
                raise

    async with asyncio.TaskGroup() as group:
        group.create_task(waiting(0.001))
        other = group.create_task(waiting(1000))
        async with asyncio.timeout(5):
            while not seen:  # noqa: ASYNC110 - the limit itself is what is waited for
                await asyncio.sleep(0)
        other.cancel()
    assert [type(error) for error in seen] == [TimeoutError, asyncio.CancelledError]


async def test_a_call_that_is_forgotten_is_let_be() -> None:
    overdue = Overdue(tick_s=0.001)
    call = object()
    overdue.watch(call, 0.0)
    overdue.forget(call)
    await asyncio.sleep(0.01)
    other = asyncio.CancelledError()
    assert overdue.judge(call, other) is other


def test_metrics_count_calls_and_cap_what_a_peer_can_choose() -> None:
    metrics = Metrics()
    for number in range(150):
        metrics.call_answered(Call(f"/a.B/M{number}", "1", seconds=0.01))
    metrics.evidence_appraised(accepted=False, simulated=False, reason="tcb.out_of_date")
    metrics.key_asked(released=True, simulated=True)
    metrics.key_asked(released=False, simulated=None, reason="model.unknown")
    metrics.verifiers_disagreed()
    metrics.workers.labels("true").set(2)
    page = generate_latest(metrics.registry).decode()
    assert page.count("cloister_calls_total{") == 101
    assert 'cloister_calls_total{code="OK",method="other"} 50.0' in page
    assert 'cloister_appraisals_total{outcome="rejected",reason="tcb.out_of_date",simulated="false"} 1.0' in page
    assert 'cloister_keys_total{outcome="released",reason="",simulated="true"} 1.0' in page
    assert 'cloister_keys_total{outcome="refused",reason="model.unknown",simulated=""} 1.0' in page
    assert 'cloister_workers{simulated="true"} 2.0' in page
    assert "cloister_verifier_disagreements_total 1.0" in page


@pytest.mark.parametrize("listen", ["9100", "host:", "host:x", "host:70000", "host:٣"])
async def test_a_metrics_address_that_is_none_is_a_mistake_in_the_settings(listen: str) -> None:
    with pytest.raises(InvalidRequest, match="metrics_listen"):
        async with exporter(listen, Metrics().registry):
            pass


async def test_no_metrics_address_is_no_page() -> None:
    async with exporter("", Metrics().registry) as port:
        assert port == 0
