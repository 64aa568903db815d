"""Requests that share an evaluation: each has the bits that it has alone, and none of another's."""

import asyncio
from collections import deque

import numpy as np
import openvino as ov
import pytest

from cloister.errors import InvalidRequest, NotReady
from cloister.worker.batches import Item, take
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.tuning import Tuning, Tunings, rows_alike
from fakes import networks

MARKERS = [1000.0 * (at + 1) for at in range(40)]


def marked(marker, rows=1):
    """A request that says whose it is; `sum` gives the marker back."""
    x = np.zeros((rows, networks.FEATURES), np.float32)
    x[:, 0] = marker
    return Item({"x": x}, ("p", "sum"))


def alone(engine, item):
    """The bits that OpenVINO gives in process to this request and no other."""
    compiled = ov.Core().compile_model(networks.tiny(), "CPU", engine.config)
    found = compiled.create_infer_request().infer(dict(item.inputs))
    return {name: found[name].tobytes() for name in item.outputs}


def bits(outputs):
    return {name: array.tobytes() for name, array in outputs.items()}


def under(array):
    """The bytes that an array lies over."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array


async def outcomes(engine, items):
    """All at once, through the pool."""

    async def one(item):
        try:
            return await engine.infer(item)
        except (InvalidRequest, NotReady, TimeoutError) as error:
            return error

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


@pytest.fixture
async def tiny():
    engine = OpenVinoEngine(networks.tiny(), parallel=2)
    yield engine
    await engine.close()


@pytest.fixture
async def pooled():
    """As if the tiny model were slow: one infer request, so that whatever comes while it computes goes together."""
    tuning = Tuning({"PERFORMANCE_HINT": "LATENCY"}, {"pool": 32})
    engine = OpenVinoEngine(networks.tiny(), parallel=1, weights_bytes=1 << 30, tuning=tuning)
    yield engine
    await engine.close()


@pytest.fixture
async def breakable(monkeypatch):
    """An engine whose batches can fail, as no model that passes `rows` is known to; loaded again with `again()`."""
    monkeypatch.setattr("cloister.worker.engine.rows.most_rows", lambda *_: 8)
    tuning, made = Tuning({"PERFORMANCE_HINT": "LATENCY"}, {"loop": 8, "pool": 8}), []

    def again(weights_bytes=0):
        made.append(OpenVinoEngine(networks.breakable(), parallel=1, weights_bytes=weights_bytes, tuning=tuning))
        return made[-1]

    yield again
    for engine in made:
        await engine.close()


def at(*values):
    return Item({"at": np.array(values, np.int64)}, ("y",))


@pytest.mark.attack("I07")
def test_on_the_loop_each_request_gets_its_own_rows_and_the_bits_that_it_has_alone(tiny):
    items = [marked(marker, rows=1 + index % 3) for index, marker in enumerate(MARKERS)]
    found = tiny.infer_now(items)
    for item, outputs, marker in zip(items, found, MARKERS, strict=True):
        assert outputs["sum"].tolist() == [marker] * item.rows
        assert bits(outputs) == alone(tiny, item)


@pytest.mark.attack("I07")
async def test_in_the_pool_each_request_gets_its_own_rows_and_the_bits_that_it_has_alone(pooled):
    items = [marked(marker, rows=1 + index % 3) for index, marker in enumerate(MARKERS)]
    found = await outcomes(pooled, items)
    assert pooled.evaluations < len(items) / 4
    for item, outputs, marker in zip(items, found, MARKERS, strict=True):
        assert outputs["sum"].tolist() == [marker] * item.rows
        assert bits(outputs) == alone(pooled, item)


@pytest.mark.attack("I07")
async def test_each_request_gets_the_outputs_that_it_asked_for(tiny, pooled):
    items = [Item(marked(1).inputs, ("sum",)), Item(marked(2).inputs, ("p",)), Item(marked(3).inputs, ("sum", "p"))]
    for found in (tiny.infer_now(items), await outcomes(pooled, items)):
        assert [list(outputs) for outputs in found] == [["sum"], ["p"], ["sum", "p"]]


@pytest.mark.attack("I08")
async def test_a_short_request_after_a_long_one_holds_nothing_of_it(tiny, pooled):
    for count in (30, 1, 17, 2, 1, 64, 1):
        secret = tiny.infer_now([marked(7777.0, count)])[0]
        (short,) = tiny.infer_now([marked(1.0)])
        assert secret["sum"].shape == (count,)
        assert short["sum"].tolist() == [1.0]
        assert short["p"].shape == (1, 2)
        assert len(under(short["p"])) == short["p"].nbytes, "an answer holds no more memory than its own rows"
        first, second = await outcomes(pooled, [marked(7777.0, count), marked(2.0)])
        assert (first["sum"].shape, second["sum"].tolist()) == ((count,), [2.0])
        assert len(under(second["sum"])) == second["sum"].nbytes


@pytest.mark.attack("I08")
async def test_answers_stay_what_they_are_while_others_are_evaluated(tiny, pooled):
    kept = [*tiny.infer_now([marked(1.0), marked(2.0)]), *await outcomes(pooled, [marked(3.0), marked(4.0)])]
    before = [bits(outputs) for outputs in kept]
    tiny.infer_now([marked(9999.0)] * 32)
    await outcomes(pooled, [marked(9999.0)] * 32)
    assert [bits(outputs) for outputs in kept] == before


@pytest.mark.attack("I08")
async def test_cancelled_peers_are_left_out_and_mix_nothing_up(pooled):
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        tasks = [group.create_task(pooled.infer(marked(marker))) for marker in MARKERS]
        for _ in range(2):
            await asyncio.sleep(0)  # some compute by now, the others wait
        for task in tasks[1::2]:
            task.cancel()
    assert all(task.cancelled() for task in tasks[1::2])
    for task, marker in list(zip(tasks, MARKERS, strict=True))[::2]:
        assert task.result()["sum"].tolist() == [marker]


async def test_a_request_past_its_deadline_is_not_evaluated(pooled):
    late = marked(5.0)
    late.ends_at_s = asyncio.get_running_loop().time()
    found = await outcomes(pooled, [late])
    assert isinstance(found[0], TimeoutError)
    assert pooled.evaluations == 0
    found = await outcomes(pooled, [marked(1.0), late, marked(2.0)])
    assert isinstance(found[1], TimeoutError)
    assert [found[at]["sum"].tolist() for at in (0, 2)] == [[1.0], [2.0]]


@pytest.mark.attack("I07")
async def test_parties_are_kept_apart(pooled):
    def of(party, marker):
        item = marked(marker)
        item.party = party
        return item

    found = await outcomes(pooled, [of(b"ann" if at % 2 else b"bob", MARKERS[at]) for at in range(16)])
    assert [outputs["sum"].tolist() for outputs in found] == [[marker] for marker in MARKERS[:16]]
    assert pooled.evaluations == 2


@pytest.mark.attack("I07")
async def test_a_batch_that_fails_on_the_loop_answers_nobody_and_the_next_engine_evaluates_singly(breakable):
    engine = breakable()
    assert [outcome["y"].tolist() for outcome in engine.infer_now([at(1), at(2, 3)])] == [[1], [2, 3]]
    found = engine.infer_now([at(1), at(4), at(3)])
    assert [type(outcome) for outcome in found] == [NotReady] * 3
    assert engine.failed.is_set()
    engine = breakable()
    assert [outcome["y"].tolist() for outcome in engine.infer_now([at(1), at(3)])] == [[1], [3]]
    found = engine.infer_now([at(1), at(4), at(3)])
    assert found[0]["y"].tolist() == [1]
    assert [outcome.reason for outcome in found[1:]] == ["inference.failed", "model.gone"]


@pytest.mark.attack("I07")
async def test_a_batch_that_fails_in_the_pool_answers_nobody_and_the_next_engine_evaluates_singly(breakable):
    engine = breakable(1 << 30)
    good = await outcomes(engine, [at(1), at(2, 3)])
    assert [outcome["y"].tolist() for outcome in good] == [[1], [2, 3]]
    found = await outcomes(engine, [at(1), at(4), at(3)])
    assert [outcome.reason for outcome in found] == ["model.gone"] * 3
    await engine.close()
    engine = breakable(1 << 30)
    found = await outcomes(engine, [at(1), at(4), at(3)])
    assert found[0]["y"].tolist() == [1]
    assert [outcome.reason for outcome in found[1:]] == ["inference.failed", "model.gone"]


async def test_nothing_waits_for_a_batch_to_fill(pooled):
    for marker in MARKERS[:3]:
        assert (await pooled.infer(marked(marker)))["sum"].tolist() == [marker]
    assert pooled.evaluations == 3


def test_what_was_found_out_is_remembered_by_digest():
    tunings = Tunings()
    assert tunings.of(b"one") is tunings.of(b"one")
    assert tunings.of(b"one") is not tunings.of(b"two")
    tuning = tunings.of(b"one")
    first = OpenVinoEngine(networks.slow(), parallel=2, tuning=tuning)
    assert tuning.hints in ({"PERFORMANCE_HINT": "THROUGHPUT"}, {"PERFORMANCE_HINT": "LATENCY"})
    again = OpenVinoEngine(networks.slow(), parallel=2, tuning=tuning)
    assert again.properties == first.properties
    assert again.properties["precision"] == "f32"


@pytest.mark.parametrize("limit", [1, 4])
async def test_no_more_rows_than_the_settings_say(limit):
    engine = OpenVinoEngine(networks.tiny(), parallel=1, most_rows=limit)
    assert int(engine.properties["max_batch_rows"]) <= limit
    await outcomes(engine, [marked(marker) for marker in MARKERS[:8]])
    assert engine.evaluations >= 8 / limit
    await engine.close()


class Blurring:
    """An infer request whose kernels give a row other bits among others than alone, as a plugin may."""

    def fill_rows(self, batch):
        self.batch = batch

    def evaluate(self):
        pass

    def read_rows(self, batch):
        wrong = np.float32(1e-7 if len(batch) == 5 else 0)
        return [{"p": item.inputs["x"] + wrong} for item in batch]


def test_batches_in_which_a_row_has_other_bits_than_alone_are_not_formed(tiny, monkeypatch):
    monkeypatch.setattr("cloister.worker.tuning._pays", lambda *_: True)
    assert rows_alike(Blurring(), tiny.contract, 32) == 4


def item(rows, party=b""):
    return Item({"x": np.zeros((rows, 3), np.float32)}, (), party)


@pytest.mark.parametrize(
    ("rows", "batches"),
    [
        ([1, 1, 1], [[0, 1, 2]]),
        ([4, 4, 1], [[0, 1], [2]]),
        ([6, 4, 2, 1], [[0, 2], [1, 3]]),
        ([9, 1, 1], [[0], [1, 2]]),
        ([0, 1, 0, 1], [[0], [1, 3], [2]]),
        ([8, 1], [[0], [1]]),
    ],
)
def test_the_oldest_goes_first_with_what_fits(rows, batches):
    waiting = deque(enumerate(map(item, rows)))
    found = []
    while waiting:
        found.append([at for at, _ in take(waiting, lambda one: one[1], most_rows=8, most=99)])
    assert found == batches


def test_inputs_that_disagree_on_their_rows_go_alone():
    assert Item({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))}, ()).rows == 0
    assert Item({"a": np.zeros(())}, ()).rows == 0
    assert "7" not in repr(Item({"a": np.full((1, 1), 7)}, ("y",)))
