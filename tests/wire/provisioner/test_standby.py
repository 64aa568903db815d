"""Two provisioners on one state, as processes: one writes, the other stands by and takes over (attacks F10, E06)."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.client.audit_memory import AuditMemory
from cloister.client.log_auditor import LogAuditor
from cloister.client.reaching import settled
from cloister.ear import SigningKey
from cloister.errors import CloisterError, NotReady, Unavailable
from cloister.rpc.channel import Peer
from fakes.pki import MeshPki
from fakes.provisioners import WAIT_S, ProvisionerProcess, provisioner_process
from fakes.results import MODEL
from fakes.running_services import Running, WireWorker, provisioner_settings, running_verifier, verifier_settings
from fakes.sim import simulated_platform
from wire.provisioner.conftest import Desk

LEASE_S = 10.0


@dataclass
class Pair:
    """A verifier, and two provisioners that it witnesses."""

    verifier: Running
    first: ProvisionerProcess
    second: ProvisionerProcess
    desk: Desk
    memory: Path
    processes: list[ProvisionerProcess] = field(default_factory=list)

    async def allow(self, *at: ProvisionerProcess, version: int) -> int:
        """Sign a policy at the first of them that serves."""
        async with at[0].peer("owner", *at[1:], name="alice") as owner:
            await settled(owner)
            return int((await self.desk.allow(owner, version=version)).audit_sequence)

    async def audited(self, *at: ProvisionerProcess) -> int:
        """Verify the whole log, as an auditor who remembers; returns how long it is."""
        async with self.verifier.as_role("auditor") as verifier, at[0].peer("auditor", *at[1:]) as provisioner:
            await settled(provisioner)
            audit = await LogAuditor(verifier, provisioner, AuditMemory(self.memory), owner=False).verify()
            return int(audit.head.head.size)

    async def released(self, token: str, *at: ProvisionerProcess) -> pb.ReleaseKeyResponse:
        """Ask for the key by this result, at the present address of a worker that knows these."""
        worker = self.desk.worker
        identity = self.desk.pki.identity("worker", worker.instance, key=worker.tls).held()
        async with Peer([each.address for each in at], identity, f"provisioner.{self.desk.pki.cluster}") as peer:
            return await worker.released(peer, token, MODEL)


@asynccontextmanager
async def _pair(folder: Path, pki: MeshPki) -> AsyncIterator[Pair]:
    key = SigningKey.generate()
    async with AsyncExitStack() as stack:
        made = verifier_settings(folder / "v", pki, simulated_platform(), key)
        verifier = await stack.enter_async_context(running_verifier(made, pki))
        settings = provisioner_settings(folder / "p", pki, key, verifier=f"127.0.0.1:{verifier.server.port}")
        first, second = (provisioner_process(folder / name, settings, pki) for name in ("first", "second"))
        desk = Desk(verifier, pki, key, WireWorker(pki, simulated_platform()))
        pair = Pair(verifier, first, second, desk, folder / "audit.json", [first, second])
        for each in pair.processes:
            stack.callback(each.end)
        first.start()
        await first.serves()
        second.start()
        await second.stands_by()
        async with first.peer("owner", name="alice") as owner:
            await desk.register(owner)
            await desk.allow(owner)
        yield pair


async def _caught(pair: Pair, at: ProvisionerProcess, version: int, acknowledged: list[int]) -> None:
    """Try to sign a policy at this one, again and again, and note what it acknowledges."""
    async with at.peer("owner", name="alice") as owner:
        while True:
            try:
                acknowledged.append(int((await pair.desk.allow(owner, version=version)).audit_sequence))
            except (CloisterError, TimeoutError):
                await asyncio.sleep(0.01)


@pytest.mark.attack("E06")
async def test_after_a_kill_the_standby_takes_over_and_believes_no_result_that_was_used(
    tmp_path: Path, pki: MeshPki, record_property: Callable[[str, object], None]
) -> None:
    async with _pair(tmp_path, pki) as pair:
        used = pair.desk.token()
        lease = await pair.released(used, pair.first, pair.second)
        changed = await pair.allow(pair.first, pair.second, version=2)
        before = await pair.audited(pair.first)
        pair.first.end()
        killed_s = await pair.second.serves()
        assert killed_s < LEASE_S + 5
        with pytest.raises(NotReady) as refused:  # by what the log says of when keys were released
            await pair.released(used, pair.second)
        assert refused.value.reason == "token.before_start"
        assert await pair.allow(pair.first, pair.second, version=3) > changed  # whose first address is dead
        assert await pair.audited(pair.first, pair.second) > before
        pair.first.start()
        await pair.first.stands_by()
        pair.second.signal(signal.SIGTERM)
        stopped_s = await pair.first.serves()
        assert stopped_s < LEASE_S / 2, "it was given the lease"
        record_property("takeover_s", {"killed": round(killed_s, 2), "stopped": round(stopped_s, 2)})
        print(f"\nserving {killed_s:.1f} s after the other was killed, {stopped_s:.1f} s after it was told to stop")
        assert (await _until_released(pair, pair.first)).lease_id != lease.lease_id


async def _until_released(pair: Pair, *at: ProvisionerProcess) -> pb.ReleaseKeyResponse:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                return await pair.released(pair.desk.token(), *at)
            except NotReady:  # results of the second in which it started may have been used
                await asyncio.sleep(0.2)


@pytest.mark.attack("F10")
async def test_one_that_was_stopped_and_goes_on_writes_nothing_to_what_another_writes(
    tmp_path: Path, pki: MeshPki
) -> None:
    async with _pair(tmp_path, pki) as pair:
        pair.first.signal(signal.SIGSTOP)
        await pair.second.serves()
        ours = await pair.allow(pair.second, version=2)
        acknowledged: list[int] = []
        async with asyncio.TaskGroup() as group:
            caught = group.create_task(_caught(pair, pair.first, 3, acknowledged))
            pair.first.signal(signal.SIGCONT)
            await pair.first.stands_by()
            assert await pair.allow(pair.second, version=4) == ours + 1
            caught.cancel()
        assert acknowledged == []
        assert await pair.audited(pair.first, pair.second) == ours + 1
        pair.second.end()
        await pair.first.serves()  # by what the other wrote
        assert await pair.allow(pair.first, version=5) == ours + 2
        assert await pair.audited(pair.first) == ours + 2


@pytest.mark.attack("F10")
async def test_one_that_was_stopped_while_a_copy_went_on_is_stale_and_releases_nothing(
    tmp_path: Path, pki: MeshPki
) -> None:
    async with _pair(tmp_path, pki) as pair:
        pair.second.end()
        pair.first.signal(signal.SIGSTOP)
        shutil.copytree(pair.first.settings.state_dir, tmp_path / "copy")
        pair.second.settings = replace(pair.second.settings, state_dir=tmp_path / "copy")
        pair.second.start()
        await pair.second.serves()
        ours = await pair.allow(pair.second, version=2)
        acknowledged: list[int] = []
        async with asyncio.TaskGroup() as group:
            caught = group.create_task(_caught(pair, pair.first, 3, acknowledged))
            pair.first.signal(signal.SIGCONT)
            await pair.first.stands_by()
            with pytest.raises(Unavailable):
                await pair.released(pair.desk.token(), pair.first)
            pair.second.end()
            await pair.first.refuses("state.stale")
            caught.cancel()
        assert acknowledged == []
        with pytest.raises(NotReady):
            await pair.released(pair.desk.token(), pair.first)
        pair.first.end()
        pair.second.start()
        await pair.second.serves()
        assert await pair.audited(pair.second) == ours
