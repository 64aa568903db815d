"""Requests that share an evaluation: each has the bits that it has alone, and none of another's."""

import asyncio
from collections import deque

import numpy as np
import openvino as ov
import pytest

from cloister.errors import InvalidRequest, NotReady
from cloister.worker.batches import Item, take
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.tuning import CHECK_S, Tuning, Tunings, rows_alike, rows_within
from fakes import clocks, networks

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
    engine = OpenVinoEngine(networks.tiny(), parallel=2, tuning=Tuning(clock_s=clocks.quick()))
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
    tuning = Tuning({"PERFORMANCE_HINT": "LATENCY"}, {"loop": 8, "pool": 8}, clocks.quick())
    made = []

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
    assert pooled.counts.evaluations < len(items) / 4
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
    assert pooled.counts.evaluations == 0
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
    assert pooled.counts.evaluations == 2


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
    assert pooled.counts.evaluations == 3


def test_what_was_found_out_is_remembered_by_digest():
    tunings = Tunings(clocks.slow())
    assert tunings.of(b"one") is tunings.of(b"one")
    assert tunings.of(b"one") is not tunings.of(b"two")
    tuning = tunings.of(b"one")
    first = OpenVinoEngine(networks.slow(), parallel=2, tuning=tuning)
    assert tuning.hints in ({"PERFORMANCE_HINT": "THROUGHPUT"}, {"PERFORMANCE_HINT": "LATENCY"})
    assert tuning.most_rows == {"pool": int(first.properties["max_batch_rows"])}
    again = OpenVinoEngine(networks.slow(), parallel=2, tuning=tuning)
    assert again.properties == first.properties
    assert again.properties["precision"] == "f32"


@pytest.mark.parametrize(
    ("rates", "alike", "hint"),
    [
        ([100, 120], [8, 8], "LATENCY"),
        ([100, 105], [8, 8], "THROUGHPUT"),  # within what a busy machine does
        ([100, 120], [8, 7], "THROUGHPUT"),  # a row would have other bits among eight
    ],
)
def test_the_cores_are_used_the_other_way_where_that_answers_clearly_more(monkeypatch, rates, alike, hint):
    monkeypatch.setattr("cloister.worker.compiling.rate", lambda *_: rates.pop(0))
    monkeypatch.setattr("cloister.worker.compiling.rows_alike", lambda *_: alike.pop(0))
    tuning = Tuning(clock_s=clocks.slow())
    engine = OpenVinoEngine(networks.wide(), parallel=2, most_rows=8, tuning=tuning)
    assert engine.properties["performance_hint"] == tuning.hints["PERFORMANCE_HINT"] == hint
    assert engine.properties["max_batch_rows"] == "8"


def test_a_heavy_model_is_looked_at_and_not_measured():
    clock = clocks.Ticking(1.0)
    engine = OpenVinoEngine(networks.slow(), parallel=1, tuning=Tuning(clock_s=clock))
    assert engine.properties["max_batch_rows"] == "1"
    assert clock.now_s < 20, "a few evaluations"


@pytest.mark.parametrize("limit", [1, 4])
async def test_no_more_rows_than_the_settings_say(limit):
    tuning = Tuning(clock_s=clocks.slow())
    engine = OpenVinoEngine(networks.tiny(), parallel=1, most_rows=limit, tuning=tuning)
    assert engine.properties["max_batch_rows"] == str(limit)
    await outcomes(engine, [marked(marker) for marker in MARKERS[:8]])
    assert engine.counts.evaluations == 8 / limit
    await engine.close()


class Paced:
    """An infer request that takes so long for each evaluation and for each row of it, on a clock of its own.

    Attributes:
        blurred: In batches of this size kernels give a row other bits than alone, as a plugin may.
    """

    def __init__(self, evaluation_s, row_s, blurred=0):
        self.evaluation_s, self.row_s, self.blurred = evaluation_s, row_s, blurred
        self.now_s = 0.0

    def clock_s(self):
        return self.now_s

    def fill_rows(self, batch):
        self.batch = batch

    def evaluate(self):
        self.now_s += self.evaluation_s + self.row_s * len(self.batch)

    def read_rows(self, batch):
        wrong = np.float32(1e-7 if len(batch) == self.blurred else 0)
        return [{"p": item.inputs["x"] + wrong} for item in batch]


def test_batches_in_which_a_row_has_other_bits_than_alone_are_not_formed(tiny):
    slot = Paced(1e-5, 1e-6, blurred=5)
    assert rows_alike(slot, tiny.contract, 32, slot.clock_s) == 4


def test_batches_that_save_next_to_nothing_are_not_formed(tiny):
    slot = Paced(1e-6, 1e-5)
    assert rows_alike(slot, tiny.contract, 32, slot.clock_s) == 1


def test_sizes_that_there_is_no_time_to_try_are_not_used(tiny):
    slot = Paced(2e-3, 1e-4)
    found = rows_alike(slot, tiny.contract, 32, slot.clock_s)
    assert 8 < found < 32
    assert slot.now_s < 1.5 * CHECK_S, "loading waits for no more than one size beyond its time"


def test_on_the_loop_as_many_rows_as_there_is_time_for(tiny):
    slot = Paced(2e-5, 1e-5)
    assert rows_within(slot, tiny.contract, 32, 200e-6, slot.clock_s) == 16
    assert rows_within(slot, tiny.contract, 32, 1.0, slot.clock_s) == 32
    assert rows_within(slot, tiny.contract, 32, 25e-6, slot.clock_s) == 1


async def test_a_model_whose_batches_are_not_for_the_loop_goes_to_the_pool_which_has_time_for_them(monkeypatch):
    monkeypatch.setattr("cloister.worker.compiling.rows_within", lambda *_: 1)
    tuning = Tuning(clock_s=clocks.quick())
    engine = OpenVinoEngine(networks.tiny(), parallel=1, tuning=tuning)
    assert (engine.properties["inline"], engine.properties["max_batch_rows"]) == ("false", "32")
    assert not engine.quick(marked(1.0))
    await engine.close()


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
