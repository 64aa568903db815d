"""The bridge between a real Redis, with Cluster Serving's client on it, and a mesh of fakes that seal truly."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cloister.api.v1 import jobs_pb2 as pb
from cloister.client import Client
from cloister.compat.zoo.bridge import batch as batch_module
from cloister.compat.zoo.bridge.app import carry
from cloister.compat.zoo.bridge.counts import Counts, Totals
from cloister.compat.zoo.bridge.settings import BridgeSettings, Target, TheirRedis
from cloister.compat.zoo.bridge.stream import Stream
from cloister.errors import InvalidRequest, NotReady, Unavailable
from cloister.kit.metrics import Metrics
from cloister.rpc.status import failure_of
from fakes.job_desk import JobDesk
from fakes.job_worker import Epoch, JobWorker
from fakes.pki import MeshPki
from fakes.serving import MODEL, FakeVerifier, FakeWorker
from fakes.sim import CLUSTER
from fakes.zoo_client import ZooClient, payload
from fakes.zoo_mesh import ZooGateway, eventually
from fakes.zoo_redis import ZooRedis, zoo_redis_running

RECORDED = json.loads((Path(__file__).parents[2] / "vectors/zoo-wire.json").read_text())
SENT = {name: text.encode() for name, text in RECORDED["payloads"].items()}
STREAM = "serving_stream"
GROUP = "cloister-bridge"


class Rig:
    """Their Redis, their client, and a mesh."""

    def __init__(self, server: ZooRedis) -> None:
        self.server = server
        self.redis: Any = server.client()
        self.theirs = ZooClient(self.redis)
        verifier = FakeVerifier()
        self.worker = FakeWorker(verifier)
        self.desk = JobDesk(JobWorker(self.worker, Epoch()))
        self.gateway = ZooGateway(self.desk)
        self.trust = verifier.trust()
        self.counts = Counts(Metrics())

    def settings(self, **changes: Any) -> BridgeSettings:
        redis = changes.pop("redis", None) or TheirRedis(url=self.server.url)
        fields: dict[str, Any] = {"redis": redis, "streams": {STREAM: Target(MODEL)}, "grace_s": 2}
        return BridgeSettings(**(fields | changes))

    async def bridge(self, stopping: asyncio.Event, **changes: Any) -> Totals:
        async with Client.over(cast(Any, self.gateway), self.trust) as client:
            await carry(self.settings(**changes), client, self.counts, stopping)
        return self.totals

    async def until_empty(self, **changes: Any) -> Totals:
        async with asyncio.timeout(30):
            return await self.bridge(asyncio.Event(), until_empty=True, **changes)

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[None]:
        """The bridge beside the block, ended as a signal ends it."""
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.bridge(stopping, **changes))
            try:
                yield
            finally:
                stopping.set()

    @property
    def totals(self) -> Totals:
        return self.counts.streams.get(STREAM, Totals())

    def enqueue(self, number: int) -> None:
        self.theirs.enqueue(f"r{number}", payload(x=np.full((1, 2), number)))

    def check_answered(self, many: int) -> None:
        """Each uri has its result, and nothing else is left in Redis of any of them."""
        found = self.theirs.results()
        assert {uri: value.tolist() for uri, value in found.items()} == {
            f"r{number}": [2.0 * number] * 2 for number in range(many)
        }
        assert self.redis.xlen(STREAM) == 0
        assert self.redis.xpending(STREAM, GROUP)["pending"] == 0
        assert not self.redis.exists(f"cloister-bridge:{{{STREAM}}}:{GROUP}:tickets")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with zoo_redis_running(tmp_path / "redis") as server:
        yield Rig(server)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(batch_module, "LONGEST_PAUSE_S", 0.05)


async def test_their_requests_are_answered_in_their_form_by_sealed_jobs(rig: Rig) -> None:
    for number in range(150):
        rig.enqueue(number)
    totals = await rig.until_empty()
    assert totals == Totals(taken=150, answered=150)
    rig.check_answered(150)
    assert len({job.key for call in rig.desk.submits for job in call.jobs}) == 150
    assert b"serving_stream" not in b"".join(call.SerializeToString() for call in rig.desk.submits)
    life_ms = rig.redis.pttl(f"cluster-serving_{STREAM}:r7")
    assert 3_500_000 < life_ms <= 3_600_000


async def test_the_recorded_request_has_the_recorded_form_of_answer(rig: Rig) -> None:
    rig.gateway.shape = [-1, 128, 1, 1]
    entry = RECORDED["dense_entry"]
    assert entry["stream"] == STREAM
    rig.theirs.enqueue(entry["uri"], SENT["python-client-dense-tensor"])
    await rig.until_empty()
    assert rig.redis.hkeys(entry["result_key"]) == [b"value"]
    wanted = 2 * (np.arange(128) / 64 - 1).astype(np.float32).reshape(128, 1, 1)
    assert np.array_equal(rig.theirs.query(entry["uri"]), wanted)


async def test_each_record_that_cannot_be_asked_is_nan_with_a_reason_and_stops_no_other(rig: Rig) -> None:
    """There: no answer at all, or a job that stood still while its dashboard stayed green."""
    assert RECORDED["malformed_data_result"] == {}
    wrong = {
        "malformed-data": (b"malformed", "record.malformed"),
        "encode-only-image-b64": (SENT["encode-only-image-b64"], "image.unsupported"),
        "encode-only-strings": (SENT["encode-only-strings"], "image.unsupported"),
        "encode-only-sparse": (SENT["encode-only-sparse"], "request.invalid"),
        "short": (payload(x=np.ones(1)), "request.invalid"),
        "three": (payload(x=np.ones((2, 2, 2))), "request.invalid"),
    }
    for number, (uri, (data, _)) in enumerate(wrong.items()):
        rig.enqueue(number)
        rig.theirs.enqueue(uri, data)
    rig.redis.xadd(STREAM, {"uri": "no data"})
    rig.redis.xadd(STREAM, {"uri": "serde", "data": payload(x=np.ones((1, 2))), "serde": "stream"})
    rig.redis.xadd(STREAM, {"data": payload(x=np.ones((1, 2)))})
    totals = await rig.until_empty()
    assert totals == Totals(taken=15, answered=6, failed=9)
    for uri, (_, reason) in wrong.items():
        assert rig.theirs.query(uri) == "NaN"
        assert rig.theirs.error(uri).startswith(f"{reason}: "), rig.theirs.error(uri)
    assert [rig.theirs.query(uri) for uri in ("no data", "serde")] == ["NaN"] * 2
    (unnamed,) = rig.redis.keys("cloister-bridge:*:unnamed:*")
    assert rig.redis.hget(unnamed, "error").startswith(b"record.unnamed: ")
    for number in range(6):
        assert rig.theirs.query(f"r{number}").tolist() == [2.0 * number] * 2


async def test_what_the_model_says_of_a_request_is_nan_with_its_reason(rig: Rig) -> None:
    rig.worker.error = InvalidRequest("a value is out of range", reason="value.unheard")
    rig.enqueue(0)
    assert await rig.until_empty() == Totals(taken=1, failed=1)
    assert rig.theirs.query("r0") == "NaN"
    assert rig.theirs.error("r0") == "value.unheard: a value is out of range"


async def test_a_mesh_that_takes_no_jobs_is_asked_at_once_until_it_answers(rig: Rig) -> None:
    rig.desk.refuse = [NotReady("this gateway takes no jobs", reason="jobs.off")]
    rig.gateway.refuse = [Unavailable("not now")] * 3 + [NotReady("not yet")] * 3
    for number in range(40):
        rig.enqueue(number)
    rig.theirs.enqueue("bad", b"malformed")
    totals = await rig.until_empty()
    assert (totals.answered, totals.failed, totals.left) == (40, 1, 0)
    assert rig.desk.kept == {}
    assert rig.redis.delete(f"cluster-serving_{STREAM}:bad")
    rig.check_answered(40)


async def test_a_request_is_tried_for_its_life_and_then_nan(rig: Rig) -> None:
    rig.desk.refuse = [Unavailable("the gateway is gone", reason="peer.unavailable")] * 100_000
    rig.enqueue(0)
    async with rig.running(life_s=0.2):
        await eventually(lambda: rig.theirs.query("r0") == "NaN")
    assert rig.totals == Totals(taken=1, failed=1)
    assert "the gateway is gone" in rig.theirs.error("r0")


async def test_a_job_that_the_mesh_has_lost_is_submitted_again(rig: Rig) -> None:
    rig.desk.at_once = False
    rig.enqueue(0)
    async with rig.running():
        await eventually(lambda: rig.desk.watches)
        ((model, job_id),) = rig.desk.kept
        rig.desk._keys.clear()
        await rig.desk.lose(model, job_id)
        await eventually(lambda: rig.desk.kept)
        assert job_id not in {kept_id for _, kept_id in rig.desk.kept}
        await rig.desk.run()
        await eventually(lambda: rig.totals.answered)
    rig.check_answered(1)


async def test_jobs_that_never_reached_the_mesh_are_submitted_together(rig: Rig) -> None:
    """A bridge was killed after it had kept their tickets, and before it sent them."""
    rig.desk.at_once = False
    for number in range(64):
        rig.enqueue(number)
    async with rig.running(grace_s=0):
        await eventually(lambda: len(rig.desk.kept) == 64)
    rig.desk.kept.clear()
    rig.desk._keys.clear()
    rig.desk.submits.clear()
    rig.desk.at_once = True
    assert (await rig.until_empty()).answered == 64
    rig.check_answered(64)
    assert len(rig.desk.submits) <= 4, "one by one"


async def test_where_a_job_may_not_wait_as_long_as_a_request_it_waits_as_several(rig: Rig) -> None:
    epoch = Epoch(open_until=datetime.now(UTC) + timedelta(hours=3))
    rig.desk.workers = [JobWorker(rig.worker, epoch)]
    rig.enqueue(0)
    assert await rig.until_empty() == Totals(taken=1, answered=1)
    (job,) = rig.desk.submits[-1].jobs
    assert 3600 < job.not_after_ms / 1000 - time.time() < 3 * 3600


async def test_a_job_that_nobody_came_to_in_its_time_is_submitted_again(rig: Rig) -> None:
    rig.desk.at_once = False
    rig.enqueue(0)
    async with rig.running():
        await eventually(lambda: rig.desk.kept)
        (kept,) = rig.desk.kept.values()
        kept.job.failure.CopyFrom(failure_of(Unavailable("nobody", reason="job.expired")))
        rig.desk._end(kept, pb.JOB_STATE_DEAD)
        await rig.desk.run()
        await eventually(lambda: len(rig.desk.kept) == 2)
        await rig.desk.run()
        await eventually(lambda: rig.totals.answered)
    rig.check_answered(1)


async def test_a_job_whose_ticket_was_lost_is_asked_as_another(rig: Rig) -> None:
    """Redis was set back by a second: the mesh has the job, and nobody will open its answer."""
    rig.desk.at_once = False
    rig.enqueue(0)
    async with rig.running(grace_s=0):
        await eventually(lambda: rig.desk.watches)
    assert rig.redis.delete(f"cloister-bridge:{{{STREAM}}}:{GROUP}:tickets") == 1
    rig.desk.at_once = True
    assert (await rig.until_empty()).answered == 1
    rig.check_answered(1)
    keys = [job.key for call in rig.desk.submits for job in call.jobs]
    assert len(set(keys)) == 2
    assert all(key.startswith(keys[0]) for key in keys)


async def test_two_bridges_of_one_name_answer_each_request_once(rig: Rig) -> None:
    rig.desk.at_once = False
    for number in range(20):
        rig.enqueue(number)
    other = Rig(rig.server)
    other.desk, other.gateway, other.trust = rig.desk, rig.gateway, rig.trust
    async with rig.running(), other.running():
        await eventually(lambda: len(rig.desk.kept) >= 20)
        await rig.desk.run()
        await eventually(lambda: rig.redis.xlen(STREAM) == 0)
    rig.check_answered(20)
    assert rig.totals.answered + other.totals.answered == 20
    assert rig.totals.left == other.totals.left == 0


async def test_what_a_bridge_left_is_taken_over_by_another_of_its_group(rig: Rig) -> None:
    rig.desk.at_once = False
    for number in range(5):
        rig.enqueue(number)
    async with rig.running(grace_s=0):
        await eventually(lambda: len(rig.desk.kept) == 5)
    assert rig.totals.left == 5
    rig.desk.at_once = True
    await rig.desk.run()
    async with rig.running(consumer="other", hold_s=1):
        await eventually(lambda: rig.redis.xlen(STREAM) == 0)
    rig.check_answered(5)
    assert len(rig.desk._keys) == 5, "asked twice"


async def test_what_is_under_way_is_said_to_be_so_that_nobody_takes_it_over(rig: Rig) -> None:
    rig.desk.at_once = False
    rig.enqueue(0)
    idle_ms = [0]

    def renewed() -> bool:
        idle_ms.append(rig.redis.xpending_range(STREAM, GROUP, "-", "+", 1)[0]["time_since_delivered"])
        return idle_ms[-1] < idle_ms[-2]

    async with rig.running(hold_s=1):
        await eventually(lambda: rig.desk.kept)
        await eventually(renewed)
        await eventually(renewed)
        await rig.desk.run()
        await eventually(lambda: rig.totals.answered)
    assert max(idle_ms) < 1000


async def test_a_group_that_is_there_is_gone_on_with_and_one_that_is_lost_is_made_again(rig: Rig) -> None:
    """There, a restart met BUSYGROUP."""
    for number in range(3):
        rig.enqueue(number)
        assert (await rig.until_empty()).answered == 1
    async with rig.running():
        await eventually(lambda: rig.redis.xinfo_groups(STREAM))
        rig.redis.flushall()
        rig.enqueue(0)
        await eventually(lambda: rig.theirs.results())
    rig.check_answered(1)


async def test_their_redis_may_be_killed_and_come_back(rig: Rig) -> None:
    rig.desk.at_once = False
    for number in range(10):
        rig.enqueue(number)
    async with rig.running():
        await eventually(lambda: len(rig.desk.kept) == 10)
        await asyncio.to_thread(rig.server.kill)
        await rig.desk.run()
        await asyncio.sleep(0.1)
        await asyncio.to_thread(rig.server.start)
        await eventually(lambda: rig.totals.answered == 10)
    rig.check_answered(10)


@pytest.mark.parametrize("engine_has_read", [True, False])
async def test_a_new_group_begins_where_their_engine_stopped(rig: Rig, engine_has_read: bool) -> None:
    rig.theirs.enqueue("r1" if not engine_has_read else "before", payload(x=np.ones((1, 2))))
    rig.redis.xgroup_create(STREAM, "serving", "0" if engine_has_read else "$")  # their clients make it, too
    if engine_has_read:
        rig.redis.xreadgroup("serving", "cli", {STREAM: ">"})
    rig.enqueue(0)
    await rig.until_empty()
    assert rig.theirs.query("before") == "[]"
    assert set(rig.theirs.results()) == {"r0"} | (set() if engine_has_read else {"r1"})
    if engine_has_read:
        assert (await Rig(rig.server).until_empty(group="all", since="0")).answered == 1


async def test_a_request_that_was_trimmed_is_said_to_be_gone(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.desk.at_once = False
    rig.desk.refuse = [Unavailable("not now")] * 100_000
    rig.enqueue(0)
    async with rig.running(grace_s=0):
        await eventually(lambda: rig.totals.taken)
    rig.desk.refuse = []
    rig.redis.xtrim(STREAM, maxlen=0)
    assert await rig.until_empty() == Totals(taken=1, failed=1)
    assert "reason=record.trimmed" in capsys.readouterr().out


async def test_no_more_is_taken_than_may_be_under_way(rig: Rig) -> None:
    rig.desk.at_once = False
    for number in range(30):
        rig.enqueue(number)
    async with rig.running(max_records=8, batch=4):
        await eventually(lambda: len(rig.desk.kept) == 8)
        for _ in range(10):
            await asyncio.sleep(0.02)
            assert rig.totals.left == 8
        rig.desk.at_once = True
        await rig.desk.run()
        await eventually(lambda: rig.totals.answered == 30)
    rig.check_answered(30)


async def test_streams_have_models_of_their_own(rig: Rig) -> None:
    rig.enqueue(0)
    nobody = ZooClient(rig.redis, "other")
    nobody.enqueue("r0", payload(x=np.ones((1, 2))))
    async with rig.running(streams={STREAM: Target(MODEL), "other": Target("nobody")}, life_s=0.5):
        await eventually(lambda: nobody.query("r0") == "NaN")
        await eventually(lambda: rig.totals.answered == 1)
    assert nobody.error("r0").startswith("name.unknown: ")
    assert rig.counts.streams["other"] == Totals(taken=1, failed=1)


@pytest.mark.attack("H06")
async def test_a_redis_with_jobs_of_the_mesh_is_refused(rig: Rig) -> None:
    rig.redis.zadd(f"{CLUSTER}:jobs:models", {MODEL: 1})
    with pytest.raises(NotReady) as caught:
        await rig.until_empty()
    assert caught.value.reason == "redis.of_mesh"
    assert not rig.redis.exists(STREAM)


@pytest.mark.attack("H04")
async def test_their_redis_over_tls_is_reached_by_its_own_authority_only(tmp_path: Path) -> None:
    lab, stranger = MeshPki("lab.internal"), MeshPki("stranger.internal")
    tls = lab.identity("verifier", "redis", ("localhost",), ("127.0.0.1",)).write(tmp_path / "server")
    mine = lab.identity("client", "bridge").write(tmp_path / "bridge")
    other = tmp_path / "other.pem"
    other.write_bytes(stranger.roots_pem)
    with zoo_redis_running(tmp_path / "redis", tls) as server:
        rig = Rig(server)
        rig.enqueue(0)
        certified = {"certificate": mine.certificate, "private_key": mine.private_key}
        for wrong in ({"trust_roots": other, **certified}, {"trust_roots": tls.trust_roots}):
            with pytest.raises(Unavailable):
                await rig.until_empty(redis=TheirRedis(url=server.url, **wrong))
        await rig.until_empty(redis=TheirRedis(url=server.url, trust_roots=tls.trust_roots, **certified))
        rig.check_answered(1)


async def test_an_entry_is_settled_once_whoever_settles_it(rig: Rig) -> None:
    from cloister.compat.zoo.bridge.connecting import connected

    entry_id = rig.theirs.enqueue("r0", payload(x=np.ones((1, 2))))
    async with connected(rig.settings().redis, 1) as client:
        stream = Stream(client, STREAM, rig.settings())
        await stream.open()
        (entry,) = await stream.new(10, 100)
        assert entry.entry_id == entry_id
        assert await stream.settle(entry, b"first")
        assert not await stream.settle(entry, b"second", "error")
    assert rig.redis.hgetall(f"cluster-serving_{STREAM}:r0") == {b"value": b"first"}


def test_a_payload_is_base64_of_what_was_recorded() -> None:
    assert base64.b64decode(payload(t=np.ones(1)))[:4] == base64.b64decode(SENT["encode-only-strings"])[:4]
