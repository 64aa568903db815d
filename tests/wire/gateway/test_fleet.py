"""Who is in the fleet: told by the verifier, believed for as long as an Attestation Result lasts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cloister.errors import NotFound, Unavailable
from fakes.gateway_parts import A, B
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, ask, running_gateway, who
from fakes.worker_link import FakeWorker


def instances(status: object) -> list[str]:
    return [worker.instance for worker in status.workers]  # type: ignore[attr-defined]


async def test_a_worker_that_leaves_finishes_what_it_has(rig: Rig) -> None:
    leaving = await rig.worker(A)
    leaving.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        asked = group.create_task(ask(stub))
        await leaving.given(1)
        await rig.worker(B)
        rig.feed.go(A, "left")
        await rig.until(lambda status: instances(status) == [B])
        assert who(await ask(stub)) == B
        leaving.open_gate.set()
    assert who(asked.result()) == A


@pytest.mark.parametrize("reason", ["expired", "revoked", "replaced"])
async def test_of_a_worker_that_is_attested_no_more_the_link_ends_at_once(rig: Rig, reason: str) -> None:
    going = await rig.worker(A)
    going.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        stub = await rig.raw()
        asked = group.create_task(ask(stub))
        await going.given(1)
        await rig.worker(B)
        rig.feed.go(A, reason)
    assert who(asked.result()) == B
    going.open_gate.set()


async def test_without_anybody_the_model_is_not_known(rig: Rig) -> None:
    await rig.worker(A)
    rig.feed.go(A, "expired")
    await rig.until(lambda status: not status.workers)
    with pytest.raises(NotFound, match="no such model"):
        await ask(await rig.raw())


async def test_renewal_keeps_the_link(rig: Rig) -> None:
    worker = await rig.worker(A)
    worker.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(await rig.raw()))
        await worker.given(1)
        rig.feed.join(worker.attested(expires_at_ms=1 << 44))
        await rig.until(lambda status: status.workers[0].attested_until_ms == 1 << 44)
        worker.open_gate.set()
    assert who(asked.result()) == A
    assert len(worker.seen) == 1


async def test_a_worker_goes_when_its_result_ends_though_nobody_says_so(rig: Rig) -> None:
    worker = await rig.worker(A)
    rig.feed.join(worker.attested(expires_at_ms=time.time_ns() // 1_000_000 + 300))
    await rig.until(lambda status: not status.workers)


async def test_while_the_verifier_is_away_the_fleet_serves_on(rig: Rig) -> None:
    await rig.worker(A)
    stub = await rig.raw()
    rig.feed.cut()
    for _ in range(5):
        assert who(await ask(stub)) == A
    await rig.worker(B)
    assert instances(await rig.status()) == [A, B]


async def test_a_verifier_that_has_forgotten_its_members_takes_none_from_us(rig: Rig) -> None:
    await rig.worker(A)
    stub = await rig.raw()
    del rig.feed.workers[A]
    rig.feed.cut()
    await rig.worker(B)
    assert instances(await rig.status()) == [A, B]
    assert {who(await ask(stub)) for _ in range(20)} <= {A, B}


async def test_a_worker_under_a_name_that_is_not_its_own_is_not_linked(rig: Rig) -> None:
    async with FakeWorker(A).serving(rig.pki) as worker:
        misnamed = worker.attested()
        misnamed.server_name = f"{B}.worker.{rig.pki.cluster}"
        rig.feed.join(misnamed)
        await rig.worker(B)
        assert instances(await rig.status()) == [B]


@pytest.mark.parametrize(
    "endpoint", ["", "unix:/run/x", "unix:443", "xds:///x", "dns://1.2.3.4/x:1", "host", "a:1\n", "127.0.0.1:x"]
)
async def test_an_endpoint_that_is_no_address_is_not_dialled(rig: Rig, endpoint: str) -> None:
    async with FakeWorker(A).serving(rig.pki) as worker:
        strange = worker.attested()
        strange.endpoint = endpoint
        rig.feed.join(strange)
        await rig.worker(B)
        assert instances(await rig.status()) == [B]


async def test_a_worker_with_the_certificate_of_another_is_not_linked(rig: Rig) -> None:
    async with FakeWorker(A).serving(rig.pki) as worker:
        other = worker.attested()
        other.instance, other.server_name = B, f"{B}.worker.{rig.pki.cluster}"
        rig.feed.join(other)
        await rig.until(lambda status: instances(status) == [B])
        with pytest.raises((Unavailable, NotFound)):
            await ask(await rig.raw())
        assert not (await rig.status()).workers[0].linked
        assert worker.frames == 0


async def test_a_worker_of_another_mesh_is_not_linked(rig: Rig, tmp_path: Path) -> None:
    async with FakeWorker(A).serving(MeshPki()) as worker:
        rig.feed.join(worker.attested())
        await rig.until(lambda status: instances(status) == [A])
        with pytest.raises((Unavailable, NotFound)):
            await ask(await rig.raw())
        assert worker.frames == 0


async def test_a_worker_that_is_slow_to_come_up_does_not_make_its_model_unknown(rig: Rig) -> None:
    async with FakeWorker(A).serving(rig.pki) as worker:
        await worker.die()
        rig.feed.join(worker.attested())
        await rig.until(lambda status: instances(status) == [A])
        await worker.revive()
        await rig.until_linked(A)
        await ask(await rig.raw())


@pytest.mark.attack("C11")
async def test_a_worker_on_simulated_hardware_is_nobody_unless_the_gateways_settings_say_so(
    tmp_path: Path, pki: MeshPki
) -> None:
    for allowed in (False, True):
        async with (
            running_gateway(tmp_path / str(allowed), pki, simulated_workers=allowed) as rig,
            FakeWorker(A).serving(pki) as simulated,
        ):
            told = simulated.attested()
            told.simulated = True
            rig.feed.join(told)
            await rig.worker(B)  # told after it, so the gateway has heard of both
            assert (A in instances(await rig.status())) is allowed


@pytest.mark.attack("C11")
async def test_a_member_that_turns_out_to_be_simulated_is_cut(rig: Rig) -> None:
    worker = await rig.worker(A)
    told = worker.attested()
    told.simulated = True
    rig.feed.join(told)
    await rig.until(lambda status: not status.workers)
