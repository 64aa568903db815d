"""Every worker of a large mesh keeps a watch open, and the verifier answers all the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.errors import Unavailable
from fakes.running_services import CALL_S, Running, WireWorker

WATCHES = 1200


@pytest.mark.attack("J14")
async def test_watches_leave_room_for_calls_and_all_hear_of_a_revocation(verifier: Running, worker: WireWorker) -> None:
    async with AsyncExitStack() as stack:
        instances = [f"{number:032x}" for number in range(4)]
        peers = [await stack.enter_async_context(verifier.as_role("worker", name)) for name in instances]
        watches: list[Any] = []
        for number in range(WATCHES):
            watches.append(peers[number % 4].stub(VerifierStub).WatchTrust(pb.WatchTrustRequest(), timeout=60))
            assert not (await watches[-1].read()).revocations
        async with verifier.as_role("enrol") as enrol, verifier.as_role("operator") as operator:
            await worker.appraised(enrol)
            stub: Any = operator.stub(VerifierStub)
            request = pb.RevokeRequest(kind=pb.REVOCATION_KIND_INSTANCE, value=instances[1], reason="a drill")
            await stub.Revoke(request, timeout=CALL_S)
        async with asyncio.timeout(5):
            heard = [len((await watch.read()).revocations) for watch in watches]
        assert heard == [int(number % 4 == 1) for number in range(WATCHES)]
        for watch in watches:
            watch.cancel()


async def test_watches_of_trust_end_at_once_when_the_verifier_stops(verifier: Running) -> None:
    async with verifier.as_role("provisioner") as peer, asyncio.TaskGroup() as group:
        watch: Any = peer.stub(VerifierStub).WatchTrust(pb.WatchTrustRequest(), timeout=CALL_S)
        await watch.read()
        group.create_task(verifier.server.run())
        verifier.lifecycle.stop()
        with pytest.raises(Unavailable):
            await drained(watch)


async def drained(watch: Any) -> None:
    """Read what comes, for two seconds at most."""
    async with asyncio.timeout(2.0):
        while True:
            await watch.read()
