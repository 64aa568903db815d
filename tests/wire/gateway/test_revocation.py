"""What is revoked leaves the fleet at once, whoever remembers it."""

from __future__ import annotations

import asyncio

import pytest

from cloister import ear
from cloister.api.v1.gateway_pb2 import ListWorkersRequest
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.api.v1.verifier_pb2 import (
    REVOCATION_KIND_INSTANCE,
    REVOCATION_KIND_MEASUREMENT,
    Revocation,
)
from fakes.gateway_parts import A, B
from fakes.results import MRENCLAVE, good_result
from fakes.running_gateway import Rig, ask, who

REVOKED_A = Revocation(kind=REVOCATION_KIND_INSTANCE, value=A)


@pytest.mark.attack("E11")
async def test_a_revoked_worker_is_cut_while_it_answers_and_another_takes_the_call(rig: Rig) -> None:
    going = await rig.worker(A)
    going.open_gate.clear()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(ask(await rig.raw()))
        await going.given(1)
        await rig.worker(B)
        await rig.feed.revoke(REVOKED_A)
    assert who(asked.result()) == B
    going.open_gate.set()


@pytest.mark.attack("E11")
async def test_a_worker_that_the_verifier_has_forgotten_is_cut_too(rig: Rig) -> None:
    await rig.worker(A)
    await rig.worker(B)
    del rig.feed.workers[A]  # as after a restart of the verifier: nobody will say that it is gone
    await rig.feed.revoke(REVOKED_A)
    await rig.until(lambda status: [worker.instance for worker in status.workers] == [B])


@pytest.mark.attack("E11")
async def test_a_revoked_measurement_takes_those_that_have_it(rig: Rig) -> None:
    worker = await rig.worker(A)
    await rig.worker(B)
    attested = worker.attested()
    attested.bundle.attestation_result = ear.issue(good_result(), ear.SigningKey.generate())
    rig.feed.join(attested)
    await rig.feed.revoke(Revocation(kind=REVOCATION_KIND_MEASUREMENT, value=MRENCLAVE))
    await rig.until(lambda status: [worker.instance for worker in status.workers] == [B])


@pytest.mark.attack("E11")
async def test_one_that_is_revoked_is_not_taken_in_again_until_it_is_lifted(rig: Rig) -> None:
    worker = await rig.worker(A)
    await rig.feed.revoke(REVOKED_A)
    await rig.until(lambda status: not status.workers)
    rig.feed.join(worker.attested())
    await rig.worker(B)
    assert [each.instance for each in (await rig.status()).workers] == [B]
    await rig.feed.revoke(key_set=b"the keys, as signed")
    client = (await rig.peer()).stub(GatewayStub)
    rig.feed.join(worker.attested())
    await rig.until_linked(A)
    listed = await client.ListWorkers(ListWorkersRequest(model_name="tiny"), timeout=5)
    assert listed.key_set == b"the keys, as signed"  # clients get it as it came
