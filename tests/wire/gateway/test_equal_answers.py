"""Whatever path it takes and whoever shares its evaluation, an answer is the one OpenVINO gives to its request alone.

Every request has inputs that no other has, so bytes of another's would be seen in the answer: rows of noise, and the
`echo` of a marker, longer and shorter ones in turn. In between some are wrong and some are given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import openvino as ov
import pytest
from benchmarks.models.catalogue import NETWORKS
from numpy.typing import NDArray

from cloister.api.oip.inference_pb2 import ModelInferResponse, ModelMetadataRequest
from cloister.errors import InvalidRequest
from cloister.oip.tensors import decode_response, encode_request
from cloister.seal import envelope
from cloister.seal.session import PendingResponse
from cloister.worker.tuning import Tunings
from fakes import clocks, networks
from fakes.clocks import Ticking
from fakes.pki import MeshPki
from fakes.running_gateway import RawStub, Rig, next_item
from fakes.sealing import Sealing
from fakes.serving_mesh import serving_mesh

Inputs = dict[str, NDArray[Any]]
CALLS: Final = 160
"""On each path."""
IN_FLIGHT: Final = 12
LONGEST: Final = 3000


def rows(model: str) -> Callable[[np.random.Generator], Inputs]:
    """One to four of what the catalogue asks a network."""

    def inputs(draw: np.random.Generator) -> Inputs:
        each = [NETWORKS[model].inputs(draw) for _ in range(int(draw.integers(1, 5)))]
        return {name: np.concatenate([row[name] for row in each]) for name in each[0]}

    return inputs


def marker(draw: np.random.Generator) -> Inputs:
    return {"x": np.full(int(draw.integers(1, LONGEST)), draw.random(), np.float32)}


def noise(draw: np.random.Generator) -> Inputs:
    return {"x": draw.standard_normal((int(draw.integers(1, 5)), networks.FEATURES), np.float32)}


BUILD: Final[Mapping[str, Callable[[], ov.Model]]] = {
    **{name: NETWORKS[name].build for name in ("mlp", "ffnn", "colours")},
    "wide": lambda: networks.wide(2800),
    "echo": lambda: networks.echo(np.dtype(np.float32), (-1,)),
}
INPUTS: Final = {**{name: rows(name) for name in ("mlp", "ffnn", "colours")}, "wide": noise, "echo": marker}


class InProcess:
    """OpenVINO's own answers, each to one request alone, by models compiled as the worker says of its own."""

    def __init__(self) -> None:
        self._compiled: dict[str, ov.CompiledModel] = {}
        self._one_at_a_time = Lock()

    async def learn(self, rig: Rig) -> None:
        stub = await rig.oip()
        for name, build in BUILD.items():
            properties = (await stub.ModelMetadata(ModelMetadataRequest(name=name), timeout=10)).properties
            config = {
                "INFERENCE_PRECISION_HINT": properties["precision"],
                "ENABLE_CPU_PINNING": False,
                "PERFORMANCE_HINT": properties["performance_hint"],
            }
            self._compiled[name] = ov.Core().compile_model(build(), "CPU", config)

    def outputs(self, model: str, inputs: Inputs) -> dict[str, bytes]:
        with self._one_at_a_time:
            found = self._compiled[model](inputs)
            return {port.any_name: np.array(found[port]).tobytes() for port in self._compiled[model].outputs}


class Question:
    """One request, and what must come back for it."""

    def __init__(self, number: int, sealing: Mapping[str, Sealing] | None, model: str = "") -> None:
        draw = np.random.default_rng(number)
        self.model = model or list(BUILD)[number % len(BUILD)]
        self.inputs = INPUTS[self.model](draw)
        self.is_wrong, self.is_given_up = number % 9 == 0, number % 11 == 0
        wrong = {name: array.astype(np.float64) for name, array in self.inputs.items()}
        request = encode_request(self.model, wrong if self.is_wrong else self.inputs)
        self.name = request.id = f"request {number}"
        self.raw = request.SerializeToString()
        self._pending: PendingResponse | None = None
        if sealing is not None:
            self.raw, self._pending = sealing[self.model].seal(self.raw)

    def check(self, answer: ModelInferResponse, truth: InProcess) -> None:
        if self._pending is not None:
            opened = self._pending.open(envelope.sealed_response(answer))
            assert (opened.WhichOneof("outcome") == "failure") == self.is_wrong
            if self.is_wrong:
                assert opened.failure.error == "InvalidRequest"
                return
            answer = ModelInferResponse.FromString(opened.response)
        assert not self.is_wrong
        assert (answer.id, answer.model_name, answer.model_version) == (self.name, self.model, "1")
        found = {name: array.tobytes() for name, array in decode_response(answer).items()}
        assert found == truth.outputs(self.model, self.inputs)


class Asker:
    """A tenant that asks in one way.

    Attributes:
        heard: How many questions were answered, or refused as they should be.
    """

    def __init__(self, stub: RawStub, truth: InProcess, first: int, sealing: Mapping[str, Sealing] | None) -> None:
        self.heard = 0
        self._stub = stub
        self._truth = truth
        self._sealing = sealing
        self._numbers = iter(range(first, first + CALLS))

    async def ask_singly(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(self._ask_on())

    async def _ask_on(self) -> None:
        for number in self._numbers:
            question = Question(number, self._sealing)
            if question.is_given_up:
                with suppress(TimeoutError, InvalidRequest):  # a wrong one may be refused before it is given up
                    async with asyncio.timeout(0.002):
                        await self._stub.infer(question.raw, timeout=30)
                continue
            try:
                answer = await self._stub.infer(question.raw, timeout=30)
            except InvalidRequest:
                assert question.is_wrong
            else:
                question.check(ModelInferResponse.FromString(answer), self._truth)
            self.heard += 1

    async def ask_on_a_stream(self, model: str = "") -> None:
        """Ask all at once: of this model, or of each in turn.

        What is heard is checked at the end, off the event loop: while the loop evaluates for itself, nobody's requests
        come to wait for one evaluation.
        """
        heard: list[tuple[Question, ModelInferResponse]] = []
        asked = [Question(number, self._sealing, model) for number in self._numbers]
        stream = self._stub.stream(timeout=100)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(stream, asked))
            for question in asked:
                item = await next_item(stream)
                if item.error_message:
                    assert question.is_wrong
                    assert item.infer_response.id == question.name
                else:
                    heard.append((question, item.infer_response))
                self.heard += 1
        stream.cancel()
        await asyncio.to_thread(self._check, heard)

    def _check(self, heard: list[tuple[Question, ModelInferResponse]]) -> None:
        for question, answer in heard:
            question.check(answer, self._truth)

    async def _write(self, stream: Any, asked: list[Question]) -> None:
        for question in asked:
            await stream.write(question.raw)


@pytest.mark.attack("I07")
@pytest.mark.attack("I08")
@pytest.mark.parametrize(
    ("front", "clock", "busy"),
    [
        ("grpc", clocks.slow, "wide"),  # in the pool they wait while it computes
        ("envoy", clocks.quick, "mlp"),  # on the loop those go together that come together
    ],
)
async def test_every_answer_is_that_of_openvino_alone(
    tmp_path: Path, pki: MeshPki, front: str, clock: Callable[[], Ticking], busy: str
) -> None:
    models = {name: build() for name, build in BUILD.items()}
    async with serving_mesh(tmp_path, pki, models, Tunings(clock()), front=front) as rig:
        truth = InProcess()
        await truth.learn(rig)
        sealing = {name: Sealing(rig.inside, name) for name in BUILD}
        ann, bob = await rig.raw("ann"), await rig.raw("bob")
        plain, plain_stream = Asker(ann, truth, 1000, None), Asker(bob, truth, 2000, None)
        sealed, sealed_stream = Asker(bob, truth, 3000, sealing), Asker(ann, truth, 4000, sealing)
        async with asyncio.timeout(100), asyncio.TaskGroup() as group:
            for single in (plain, sealed):
                group.create_task(single.ask_singly())
            for streamed in (plain_stream, sealed_stream):
                group.create_task(streamed.ask_on_a_stream())
        assert plain_stream.heard == sealed_stream.heard == CALLS
        assert min(plain.heard, sealed.heard) > CALLS * 0.8
        async with asyncio.timeout(100):  # on a busy machine it may take more until two come to wait for one evaluation
            while not shared((await rig.status()).workers[0].counters.models, busy):
                async with asyncio.TaskGroup() as group:
                    for stub in (ann, bob, ann, bob):
                        group.create_task(Asker(stub, truth, 5000, None).ask_on_a_stream(busy))


def shared(counted: Any, model: str) -> bool:
    """Whether some requests to a model shared an evaluation; reported every other second."""
    return any(each.name == model and each.requests > each.evaluations for each in counted)
