"""What is withdrawn or changed, from the owner's call to the worker's stream, over real mutual TLS (F05, F13, J14)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import dsse
from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.client import lift_withdrawal, list_models, withdraw, withdrawals
from cloister.errors import AlreadyExists, CloisterError, KeyRefused, NotAllowed, NotFound, NotReady, Overloaded
from cloister.kit.revocation import ORDER_TYPE
from cloister.kit.withdrawal import Withdrawn, lift_order
from cloister.provisioner import app
from cloister.rpc.channel import Peer
from fakes.results import MODEL
from fakes.running_services import CALL_S, WireWorker, running_provisioner
from fakes.sim import simulated_platform

ALL, TWO, THREE = Withdrawn(MODEL), Withdrawn(MODEL, 2), Withdrawn(MODEL, 3)


async def released(desk: Any, peer: Peer, version: int = 0, worker: WireWorker | None = None) -> Any:
    worker = worker or desk.worker
    return await worker.released(peer, desk.token(worker), MODEL, version=version)


async def version_of(desk: Any, peer: Peer, version: int = 0) -> int:
    answer = await released(desk, peer, version)
    return int(json.loads(answer.manifest.manifest)["version"])


@asynccontextmanager
async def watching(peer: Peer, *lease_ids: str) -> AsyncIterator[Any]:
    stub: Any = peer.stub(ProvisionerStub)
    stream = stub.WatchLeases(pb.WatchLeasesRequest(lease_ids=lease_ids), timeout=CALL_S)
    try:
        yield stream
    finally:
        stream.cancel()


async def news(stream: Any) -> pb.LeaseEvent:
    async with asyncio.timeout(10):
        async for event in stream:
            if event.ended or event.changed:
                return event
    raise AssertionError("the stream ended")


async def order(desk: Any, peer: Peer, what: Withdrawn, *keys: Ed25519PrivateKey) -> bytes:
    """What these people sign to have it lifted."""
    (found,) = [each for each in await withdrawals(peer) if (each.model_name, each.model_version) == what]
    payload = lift_order(desk.pki.cluster, what, found.sequence, found.withdrawn_at_ms)
    return dsse.sign(payload, ORDER_TYPE, keys or [desk.owner_key])


async def lines(desk: Any) -> list[dict[str, Any]]:
    async with desk.running.as_role("auditor") as auditor:
        stub: Any = auditor.stub(ProvisionerStub)
        return [json.loads(each.record) async for each in stub.ListAudit(pb.ListAuditRequest(), timeout=CALL_S)]


@pytest.mark.attack("J14")
async def test_a_withdrawn_model_ends_its_leases_at_once_and_is_released_to_nobody_until_it_is_lifted(
    desk: Any,
) -> None:
    async with desk.owner() as owner, desk.as_worker() as worker:
        lease_id = (await released(desk, worker)).lease_id
        async with watching(worker, lease_id) as stream:
            assert (await anext(stream)).sequence == 1
            answer = await withdraw(owner, ALL, "a drill")
            assert answer.leases == 1
            assert answer.leases_until_ms > 0
            assert list((await news(stream)).ended) == [lease_id]
        for version in (0, 2):
            with pytest.raises(KeyRefused, match="the request was refused"):
                await released(desk, worker, version)
        (model,) = await list_models(owner)
        assert (model.withdrawal.reason, model.leases) == ("a drill", 1)
        await lift_withdrawal(owner, ALL, "over", await order(desk, owner, ALL))
        assert await version_of(desk, worker) == 2
        assert not (await list_models(owner))[0].HasField("withdrawal")
    told = [(line["event"], line.get("reason")) for line in await lines(desk)][-5:]
    assert told == [
        ("model.withdrawn", None),
        ("key.refused", "model.withdrawn"),
        ("key.refused", "model.withdrawn"),
        ("withdrawal.lifted", None),
        ("key.released", None),
    ]


@pytest.mark.attack("J14")
@pytest.mark.attack("F05")
async def test_of_a_withdrawn_version_the_one_before_is_released_and_only_above_the_owners_floor(desk: Any) -> None:
    async with desk.owner() as owner, desk.as_worker() as worker:
        await desk.register(owner, version=3)
        lease_id = (await released(desk, worker)).lease_id
        async with watching(worker, lease_id) as stream:
            await withdraw(owner, THREE, "it answers wrongly")
            assert list((await news(stream)).ended) == [lease_id]
        assert await version_of(desk, worker) == 2
        with pytest.raises(KeyRefused):
            await released(desk, worker, 3)
        older = (await released(desk, worker)).lease_id
        async with watching(worker, older) as stream:
            await lift_withdrawal(owner, THREE, "over", await order(desk, owner, THREE))
            assert list((await news(stream)).changed) == [older], "it may go forward again"
        assert await version_of(desk, worker) == 3
        await withdraw(owner, THREE, "after all")
        await desk.allow(owner, version=2, min_model_version=3)
        with pytest.raises(KeyRefused):
            await released(desk, worker)
    assert (await lines(desk))[-1]["reason"] == "model.version_too_old"


@pytest.mark.attack("F13")
async def test_a_new_policy_and_a_new_version_have_leases_asked_for_again(desk: Any) -> None:
    async with desk.owner() as owner, desk.as_worker() as worker:
        lease_id = (await released(desk, worker)).lease_id
        async with watching(worker, lease_id) as stream:
            await desk.allow(owner, version=2)
            assert list((await news(stream)).changed) == [lease_id]
        lease_id = (await released(desk, worker)).lease_id
        async with watching(worker, lease_id) as stream:
            assert not (await anext(stream)).changed, "it was given after that"
            await desk.register(owner, version=3)
            assert list((await news(stream)).changed) == [lease_id]


@pytest.mark.attack("J14")
@pytest.mark.attack("J13")
async def test_what_is_withdrawn_and_what_was_given_outlives_a_restart(desk: Any) -> None:
    async with desk.owner() as owner, desk.as_worker() as worker:
        kept = (await released(desk, worker)).lease_id
        await desk.register(owner, version=3)
        gone = (await released(desk, worker)).lease_id
        await withdraw(owner, THREE, "a drill")
    desk.running.lifecycle.stop()
    await desk.running.server.run()
    settings = desk.running.settings
    async with running_provisioner(settings, desk.pki) as again:
        identity = desk.pki.identity("worker", desk.worker.instance, key=desk.worker.tls).held()
        async with again.peer(identity) as worker, watching(worker, kept, gone) as stream:
            event = await news(stream)
            assert (list(event.ended), list(event.changed)) == ([gone], [kept])
        async with again.as_role("operator") as operator:
            assert [each.model_version for each in await withdrawals(operator)] == [3]


@pytest.mark.attack("J14")
async def test_nothing_but_an_order_of_the_models_signers_for_this_withdrawal_lifts_it(desk: Any) -> None:
    async with desk.owner() as owner, desk.running.as_role("operator") as operator:
        await withdraw(operator, ALL, "an emergency")
        first = await order(desk, owner, ALL)
        await lift_withdrawal(operator, ALL, "over", first)
        await withdraw(owner, ALL, "again")
        stranger = await order(desk, owner, ALL, Ed25519PrivateKey.generate())
        await withdraw(owner, TWO, "this one too")
        other = await order(desk, owner, TWO)
        with pytest.raises(NotAllowed, match=r"model's 1 signers; 'cloister revoke order' makes one$"):
            await lift_withdrawal(owner, ALL, "please", b"")
        for wrong in (b"", b"{}", first, stranger, other):
            for peer in (owner, operator):
                with pytest.raises(NotAllowed) as refused:
                    await lift_withdrawal(peer, ALL, "please", wrong)
                assert refused.value.reason == "withdrawal.lift_unsigned"
        assert [each.model_version for each in await withdrawals(owner)] == [0, 2]
        await lift_withdrawal(owner, ALL, "over", await order(desk, owner, ALL))
        with pytest.raises(NotFound):
            await lift_withdrawal(owner, ALL, "over", await order(desk, owner, TWO))


async def test_an_owner_withdraws_its_own_and_nobody_else_finds_out_what_there_is(desk: Any) -> None:
    async with desk.owner() as owner, desk.owner("mallory") as other, desk.running.as_role("operator") as operator:

        async def refusal(peer: Peer, what: Withdrawn, reason: str = "x") -> type[CloisterError]:
            with pytest.raises(CloisterError) as refused:
                await withdraw(peer, what, reason)
            return type(refused.value)

        assert await refusal(other, ALL) is await refusal(other, Withdrawn("nothing")) is NotFound
        assert await refusal(operator, Withdrawn("nothing")) is NotFound
        assert await refusal(owner, Withdrawn(MODEL, 9)) is NotFound
        await withdraw(owner, ALL, "a drill")
        assert await refusal(owner, ALL) is AlreadyExists
        assert not await withdrawals(other)
        async with desk.running.as_role("auditor") as auditor:
            assert len(await withdrawals(auditor)) == 1
            assert await refusal(auditor, ALL) is NotAllowed


async def test_a_worker_hears_of_its_own_leases_alone(desk: Any) -> None:
    other = WireWorker(desk.pki, simulated_platform())
    async with desk.owner() as owner, desk.as_worker() as worker, desk.as_worker(other) as another:
        lease_id = (await released(desk, worker)).lease_id
        async with watching(another, lease_id, "0" * 32) as stream:
            assert (await anext(stream)).sequence == 1
            await withdraw(owner, ALL, "a drill")
            event = await news(stream)
            assert (list(event.ended), sorted(event.changed)) == ([], sorted(["0" * 32, lease_id]))
            for _ in range(2):
                event = await anext(stream)
                assert not event.ended
                assert not event.changed


@pytest.mark.attack("J14")
async def test_a_release_that_was_decided_before_a_withdrawal_is_not_written_after_it(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloister.provisioner.releases import release

    decided, go_on, before = asyncio.Event(), asyncio.Event(), release.Releaser._record_release

    async def late(self: Any, granted: Any) -> None:
        decided.set()
        await go_on.wait()
        await before(self, granted)

    monkeypatch.setattr(release.Releaser, "_record_release", late)
    async with desk.owner() as owner, desk.as_worker() as worker, asyncio.TaskGroup() as group:
        asking = group.create_task(refusal_of(released(desk, worker)))
        await decided.wait()
        await withdraw(owner, ALL, "a drill")
        go_on.set()
        error = await asking
    assert (type(error), error.reason) == (NotReady, "terms.changed")
    events = [(line["event"], line.get("reason")) for line in await lines(desk)]
    assert events[-2:] == [("model.withdrawn", None), ("key.refused", "terms.changed")]


async def refusal_of(call: Any) -> CloisterError:
    with pytest.raises(CloisterError) as refused:
        await call
    return refused.value


@pytest.mark.attack("F14")
async def test_a_worker_that_holds_many_calls_open_uses_up_its_own_share_only(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "CALLS_OF_A_PEER", 2)
    settings = replace(desk.running.settings, state_dir=tmp_path / "another")
    async with running_provisioner(settings, desk.pki) as desk.running:
        other = WireWorker(desk.pki, simulated_platform())
        async with desk.as_worker() as greedy, desk.as_worker(other) as modest, AsyncExitStack() as streams:
            for _ in range(2):
                stream = await streams.enter_async_context(watching(greedy))
                async with asyncio.timeout(CALL_S):
                    await anext(aiter(stream))
            stubs: Any = [peer.stub(ProvisionerStub) for peer in (greedy, modest)]
            with pytest.raises(Overloaded) as refused:
                await stubs[0].ChallengeRelease(pb.ChallengeReleaseRequest(), timeout=CALL_S)
            assert refused.value.reason == "calls.open"
            await stubs[1].ChallengeRelease(pb.ChallengeReleaseRequest(), timeout=CALL_S)
