"""A model's rollout, rollback and the end of its old version, under load: nothing is dropped or takes another's place.

Stock clients ask in clear and try nothing twice; ours ask sealed. The stock client loads, unloads and looks, unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from cloister import Client
from cloister.client import roster
from cloister.errors import NotFound
from fakes.running_mesh import CONFIG, MODEL, RunningMesh, inputs, probe, soon

SEEDS = {"1": 3, "2": 4}
ASKED = ("", "stable")
NOT_SEALED, SEALED = "plain", "sealed"
LATEST = 25
"""So many answers in a row of the new version mean that the old one is asked no more."""


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """Two workers that serve version 1, and let an operator load more."""
    mesh = RunningMesh(tmp_path_factory.mktemp("rollout") / "mesh")
    mesh.found()
    settings = mesh.folder / "worker" / "settings.toml"
    text = settings.read_text().replace(f'models = ["{MODEL}"]', f'models = ["{MODEL}@1"]\nloadable = true')
    assert "loadable" in text
    settings.write_text(text)
    with mesh.up(workers=2):
        mesh.cli("model", "publish", mesh.seal(probe(SEEDS["1"]), 1))
        mesh.allow("--allow-simulated", "--allow-plain")
        mesh.until_serving(2)
        yield mesh


def truths() -> dict[str, Callable[[np.ndarray], bytes]]:
    """By version, what OpenVINO answers in this process."""

    def of(seed: int) -> Callable[[np.ndarray], bytes]:
        compiled = ov.Core().compile_model(probe(seed), "CPU", CONFIG)
        return lambda x: bytes(np.array(compiled(x)[0]).tobytes())

    return {version: of(seed) for version, seed in SEEDS.items()}


class Seen:
    """Which versions have answered, by kind of asker, newest last."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, str], list[str]] = {(k, a): [] for k in (NOT_SEALED, SEALED) for a in ASKED}

    async def only(self, version: str, *, asked: str, kinds: Sequence[str] = (NOT_SEALED, SEALED)) -> None:
        """Wait until askers of these kinds hear of this version alone."""
        for kind in kinds:
            heard = self.versions[kind, asked]
            await soon(lambda: heard[-LATEST:] == [version] * LATEST, f"{kind} '{asked}': {version}")  # noqa: B023


def tls(folder: Path) -> dict[str, object]:
    return {
        "ssl": True,
        "root_certificates": str(folder / "trust_roots.pem"),
        "private_key": str(folder / "private_key.pem"),
        "certificate_chain": str(folder / "certificate.pem"),
    }


@asynccontextmanager
async def asking(mesh: RunningMesh) -> AsyncIterator[Seen]:
    """Askers that never stop; an error of any, or an answer that is not its version's, is raised from here."""
    seen, truth, stop = Seen(), truths(), asyncio.Event()

    async def plain(stock: triton_aio.InferenceServerClient, asked: str) -> None:
        turn = 0
        while not stop.is_set():
            x, turn = inputs(turn), turn + 1
            given = triton.InferInput("x", list(x.shape), "FP32")
            given.set_data_from_numpy(x)
            answer = await stock.infer(MODEL, [given], model_version=asked)
            version = answer.get_response().model_version
            assert answer.as_numpy("y").tobytes() == truth[version](x)
            seen.versions[NOT_SEALED, asked].append(version)

    async def sealed(client: Client, asked: str) -> None:
        turn = 0
        while not stop.is_set():
            x, turn = inputs(turn), turn + 1
            answer = await client.infer(MODEL, {"x": x}, version=asked, timeout_s=20)
            assert answer.outputs["y"].tobytes() == truth[answer.model_version](x)
            seen.versions[SEALED, asked].append(answer.model_version)

    identity = mesh.identity("client")
    async with (
        triton_aio.InferenceServerClient(mesh.gateway, **tls(identity)) as stock,
        Client.connect(mesh.gateway, trust=mesh.trust, identity=identity) as client,
        asyncio.TaskGroup() as group,
    ):
        for asked in ASKED:
            group.create_task(plain(stock, asked))
            group.create_task(sealed(client, asked))
        yield seen
        stop.set()


async def test_a_rollout_and_its_rollback_drop_nothing(rolling: RunningMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "FRESH_S", 1.0)  # how long a client of ours goes by a list of workers

    async def cli(*words: str | Path) -> None:
        await asyncio.to_thread(rolling.cli, "model", *words)

    operator = triton_aio.InferenceServerClient(rolling.gateway, **tls(rolling.identity("operator")))

    async def index() -> list[tuple[str, str, str]]:
        found = (await operator.get_model_repository_index()).models
        return [(each.name, each.version, each.state) for each in found]

    await cli("label", MODEL, "stable=1")
    await cli("default", MODEL, "1")
    async with asyncio.timeout(20):
        while not await operator.is_model_ready(MODEL, "stable"):  # a gateway reads the file twice a second
            await asyncio.sleep(0.05)
    async with operator, asking(rolling) as seen:
        await seen.only("1", asked="")
        with pytest.raises(triton.InferenceServerException, match="the request was refused"):
            await operator.load_model(f"{MODEL}@2")
        await cli("publish", await asyncio.to_thread(rolling.seal, probe(SEEDS["2"]), 2))
        with pytest.raises(triton.InferenceServerException, match="not known here"):
            await operator.load_model(f"{MODEL}@2", config="{}")
        await operator.load_model(f"{MODEL}@2")
        assert await index() == [(MODEL, "1", "READY"), (MODEL, "2", "READY")]

        await cli("label", MODEL, "stable=2")
        await seen.only("2", asked="stable")
        assert set(seen.versions[NOT_SEALED, ""]) == set(seen.versions[SEALED, ""]) == {"1"}
        await cli("default", MODEL, "2")
        await seen.only("2", asked="")
        await cli("default", MODEL, "1")
        await seen.only("1", asked="")
        await cli("default", MODEL, "2")
        await seen.only("2", asked="", kinds=(NOT_SEALED,))  # the gateway knows
        await operator.unload_model(f"{MODEL}@1")  # some still seal to version 1
        await seen.only("2", asked="")
        assert await index() == [(MODEL, "2", "READY")]
        await seen.only("2", asked="stable")
    async with Client.connect(rolling.gateway, trust=rolling.trust, identity=rolling.identity("client")) as client:
        with pytest.raises(NotFound):
            await client.infer(MODEL, {"x": inputs(1)}, version="1")
    rolling.cli("model", "load", f"{MODEL}@2")  # it is served: nothing to do
    assert rolling.json("model", "index") == [{"name": MODEL, "version": "2", "state": "READY", "reason": ""}]
    assert "no worker serves this model" in rolling.cli("model", "unload", f"{MODEL}@1", code=1)


def test_clients_look_and_do_not_touch(rolling: RunningMesh) -> None:
    with triton.InferenceServerClient(rolling.gateway, **tls(rolling.identity("client"))) as stock:
        assert {each.name for each in stock.get_model_repository_index().models} == {MODEL}
        for call in (stock.load_model, stock.unload_model):
            with pytest.raises(triton.InferenceServerException, match="PERMISSION_DENIED"):
                call(MODEL)
