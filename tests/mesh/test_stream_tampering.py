"""A gateway with full power over each message of a stream ends conversations, and never changes what they say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister import Client
from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from cloister.client import Answer, conversation, verify_receipt
from cloister.errors import CloisterError, NotReady, SealBroken
from fakes.evil_gateway import EvilGateway, evil_gateway
from fakes.running_mesh import CLUSTER, MODEL, RunningMesh, inputs

Truth = Callable[[NDArray[np.float32]], NDArray[np.float32]]
CHUNK = b"cloister.chunk"
SHORT_S = 0.4
"""Enough for an answer, and for nobody to wait long where there is none."""


@pytest.fixture(autouse=True)
def nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "END_S", SHORT_S)


@pytest.fixture
async def evil(mesh: RunningMesh) -> AsyncIterator[EvilGateway]:
    gateway, client = mesh.identity("gateway"), mesh.identity("client")
    async with evil_gateway(mesh.gateway, CLUSTER, gateway, client) as cheat:
        yield cheat


@pytest.fixture
async def client(mesh: RunningMesh, evil: EvilGateway) -> AsyncIterator[Client]:
    async with Client.connect(evil.address, trust=mesh.trust, identity=mesh.identity("client")) as connected:
        await connected.infer(MODEL, {"x": inputs(1)})
        yield connected


def flipped(message: bytes, position: int) -> bytes:
    changed = bytearray(message)
    changed[position % len(message)] ^= 1 << (position % 8)
    return bytes(changed)


class Held:
    """Keeps the first chunk back, and does something with it when the second comes."""

    def __init__(self, then: Callable[[bytes, bytes], Sequence[bytes]]) -> None:
        self._then = then
        self._first: bytes | None = None

    def __call__(self, message: bytes) -> Sequence[bytes]:
        if CHUNK not in message:
            return [message]
        if self._first is None:
            self._first = message
            return []
        return self._then(self._first, message)


class Kept:
    """Passes all on, and puts something else in place of later ones."""

    def __init__(self, later: Callable[[bytes, bytes], Sequence[bytes]]) -> None:
        self._later = later
        self._first: bytes | None = None

    def __call__(self, message: bytes) -> Sequence[bytes]:
        if CHUNK not in message:
            return [message]
        if self._first is None:
            self._first = message
            return [message]
        return self._later(self._first, message)


async def outcomes(mesh: Client, count: int, truth: Truth) -> list[Answer | BaseException]:
    """Ask several at once; every answer that there is, is the right one."""
    asked = [inputs(seed) for seed in range(count)]
    tasks = [asyncio.ensure_future(mesh.infer(MODEL, {"x": x}, timeout_s=SHORT_S)) for x in asked]
    found = await asyncio.wait_for(_all(tasks), 20)
    for x, outcome in zip(asked, found, strict=True):
        if isinstance(outcome, Answer):
            assert outcome.outputs["y"].tobytes() == truth(x).tobytes()
    return found


async def _all(tasks: list[asyncio.Future[Answer]]) -> list[Answer | BaseException]:
    await asyncio.wait(tasks)
    return [task.exception() or task.result() for task in tasks]


async def test_through_an_honest_gateway_all_is_well(client: Client, truth: Truth) -> None:
    many = [{"x": inputs(seed)} for seed in range(40)]
    answers = await client.infer_many(MODEL, many, concurrency=8)
    for asked, answer in zip(many, answers, strict=True):
        assert answer.outputs["y"].tobytes() == truth(asked["x"]).tobytes()
        assert answer.receipt is not None
        np.testing.assert_array_equal(verify_receipt(answer.receipt, client.trust).inputs["x"], asked["x"])
    workers = {answer.worker.instance for answer in answers if answer.worker is not None}
    assert len(workers) == 2


@pytest.mark.attack("G11")
@pytest.mark.parametrize("direction", ["asked", "answered"])
async def test_no_changed_byte_goes_unnoticed(evil: EvilGateway, client: Client, direction: str) -> None:
    unnoticed = []
    positions = [*range(-40, -22, 3), *random.Random(7).sample(range(240), 24)]
    for position in positions:

        def change(message: bytes, at: int = position) -> Sequence[bytes]:
            return [flipped(message, at) if CHUNK in message else message]

        evil.honest()
        try:
            async with client.stream() as mesh:
                setattr(evil, direction, change)
                await mesh.infer(MODEL, {"x": inputs(2)}, timeout_s=SHORT_S)
                evil.honest()
        except (CloisterError, TimeoutError):
            continue
        unnoticed.append(position)
    assert not unnoticed


@pytest.mark.attack("G11")
@pytest.mark.parametrize(
    "cheat",
    [
        pytest.param(lambda: Held(lambda first, later: [later, first]), id="reordered"),
        pytest.param(lambda: Held(lambda first, later: [later]), id="left out"),
        pytest.param(lambda: Kept(lambda first, later: [first, later]), id="sent again"),
        pytest.param(lambda: Kept(lambda first, later: [later, later]), id="doubled"),
        pytest.param(lambda: Kept(lambda first, later: [first]), id="replaced by an old one"),
        pytest.param(lambda: Kept(lambda first, later: [later[:-1]]), id="cut"),
        pytest.param(lambda: Kept(lambda first, later: [later + b"\0"]), id="longer"),
    ],
)
@pytest.mark.parametrize("direction", ["asked", "answered"])
async def test_what_a_gateway_does_to_the_order_of_chunks_gives_errors_and_no_wrong_answer(
    evil: EvilGateway, client: Client, truth: Truth, direction: str, cheat: Callable[[], Held | Kept]
) -> None:
    found: list[Answer | BaseException] = []

    async def ask() -> None:
        async with client.stream() as mesh:
            await mesh.infer(MODEL, {"x": inputs(3)})
            setattr(evil, direction, cheat())
            found.extend(await outcomes(mesh, 6, truth))
            evil.honest()

    with suppress(CloisterError):  # an end that was not the worker's
        await ask()
    failed = [outcome for outcome in found if not isinstance(outcome, Answer)]
    assert failed
    assert all(isinstance(outcome, (CloisterError, TimeoutError)) for outcome in failed)


@pytest.mark.attack("G12")
async def test_answers_of_two_conversations_are_not_exchanged(evil: EvilGateway, client: Client, truth: Truth) -> None:
    """Each stream gets what was answered on the other; both asked the same, of the same workers."""
    waiting: list[bytes] = []

    def exchanged(message: bytes) -> Sequence[bytes]:
        if CHUNK not in message:
            return [message]
        waiting.append(message)
        return [waiting.pop(0)] if len(waiting) > 1 else []

    found: list[Answer | BaseException] = []

    async def ask() -> None:
        async with client.stream() as one, client.stream() as other:
            for mesh in (one, other):
                await mesh.infer(MODEL, {"x": inputs(4)})
            evil.answered = exchanged
            found.extend([*await outcomes(one, 3, truth), *await outcomes(other, 3, truth)])
            evil.honest()

    with suppress(CloisterError):  # an end that was not the worker's
        await ask()
    assert any(isinstance(outcome, SealBroken) for outcome in found)


@pytest.mark.attack("G12")
async def test_an_answer_in_clear_is_none(evil: EvilGateway, client: Client, truth: Truth) -> None:
    plain = ModelInferResponse(model_name=MODEL, model_version="1", raw_output_contents=[truth(inputs(5)).tobytes()])
    plain.outputs.add(name="y", datatype="FP32", shape=[1, 4])
    item = ModelStreamInferResponse(infer_response=plain).SerializeToString()
    async with client.stream() as mesh:
        await mesh.infer(MODEL, {"x": inputs(5)})
        evil.answered = lambda message: [item]
        with pytest.raises(SealBroken):
            await mesh.infer(MODEL, {"x": inputs(5)})
        evil.honest()


@pytest.mark.attack("G12")
async def test_the_gateway_sees_neither_tensor_names_nor_values(evil: EvilGateway, client: Client) -> None:
    x = np.frombuffer(b"CANARY-INSIDE-A-TENSOR-32-BYTES!", np.float32).reshape(1, 8)
    async with client.stream() as mesh:
        await mesh.infer(MODEL, {"x": x})
    assert [CHUNK in message for message in evil.passed[-2:]] == [True, True]  # the request, and the end
    assert not any(b"CANARY" in message for message in evil.passed)
    envelope = ModelInferRequest.FromString(evil.passed[-1])
    assert len(envelope.parameters["cloister-workers"].string_param) == 32


@pytest.mark.attack("G11")
@pytest.mark.attack("J12")
async def test_an_end_that_the_gateway_keeps_back_or_makes_up_gives_no_receipt(
    evil: EvilGateway, client: Client
) -> None:
    for cheat, reason in ((lambda message: [], "receipt.lost"), (None, "seal.broken")):
        answers: list[Answer] = []

        async def ask(cheat: Callable[[bytes], Sequence[bytes]] | None, answers: list[Answer]) -> None:
            seen: list[bytes] = []

            def kept(message: bytes) -> Sequence[bytes]:
                seen.append(message)
                return [message]

            async with client.stream() as mesh:
                evil.answered = kept
                answers.append(await mesh.infer(MODEL, {"x": inputs(6)}))
                evil.answered = cheat or (lambda message: [seen[-1]])

        try:
            await ask(cheat, answers)
            told = ""
        except SealBroken as error:
            told = error.reason
        evil.honest()
        assert told == ("" if cheat else "seal.broken")
        with pytest.raises((NotReady, SealBroken)) as raised:
            _ = answers[0].receipt
        assert raised.value.reason == reason
