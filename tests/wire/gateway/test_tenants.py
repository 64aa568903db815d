"""Tenants through a real gateway: what one sees, what it cannot tell, and a file that changes under open streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from cloister.api.oip import inference_pb2 as oip
from cloister.api.v1.gateway_pb2 import GetStatusRequest, ListWorkersRequest
from cloister.api.v1.gateway_pb2_grpc import GatewayStub
from cloister.errors import InvalidRequest, NotAllowed, NotFound, Overloaded, Unauthenticated
from cloister.rpc.spiffe import server_name
from fakes.gateway_parts import A, infer_request, model_state
from fakes.pki import MeshPki
from fakes.running_gateway import Rig, ask, free_port, next_item, running_gateway
from fakes.tenants import certificate, tenants_text, write_tenants

MODELS = (model_state("tiny"), model_state("secret"))
_INFERENCE, _GATEWAY = "/inference.GRPCInferenceService", "/cloister.api.v1.Gateway"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tenants(tmp_path / "tenants.toml", tenants_text())


@pytest.fixture
async def rig(tmp_path: Path, pki: MeshPki, path: Path) -> AsyncIterator[Rig]:
    async with running_gateway(tmp_path, pki, tenants_file=path) as made:
        yield made


class Wire:
    """A connection of one client, in bytes and statuses, with nothing of the house in it."""

    def __init__(self, rig: Rig, name: str) -> None:
        pems = rig.pki.identity("client", name)
        credentials = grpc.ssl_channel_credentials(pems.trust_roots, pems.private_key, pems.certificate)
        options = (("grpc.ssl_target_name_override", server_name(rig.pki.cluster, "gateway")),)
        self.channel = grpc.aio.secure_channel(f"127.0.0.1:{rig.port}", credentials, options=options)

    async def told(self, method: str, request: bytes) -> tuple[Any, ...]:
        """All that an answer to one call says."""
        call = self.channel.unary_unary(method)(request, timeout=10)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details(), tuple(error.trailing_metadata()), tuple(error.initial_metadata())
        return answer, tuple(await call.trailing_metadata()), tuple(await call.initial_metadata())

    async def item(self, request: bytes) -> bytes:
        """The item that answers one request of a stream."""
        call = self.channel.stream_stream(f"{_INFERENCE}/ModelStreamInfer")(timeout=10)
        await call.write(request)
        item: bytes = await call.read()
        call.cancel()
        return item


@pytest.mark.attack("J04")
async def test_a_model_that_is_not_for_a_tenant_is_answered_as_one_that_does_not_exist_byte_for_byte(rig: Rig) -> None:
    worker = await rig.worker(A, models=MODELS)
    ann = Wire(rig, "ann")
    seen: dict[str, set[Any]] = {}
    for model in ("secret", "none", "SECRET", "secret "):
        requests = {
            f"{_INFERENCE}/ModelInfer": infer_request(model),
            f"{_INFERENCE}/ModelInfer 1": infer_request(model, version="1"),
            f"{_INFERENCE}/ModelInfer label": infer_request(model, version="stable"),
            f"{_INFERENCE}/ModelInfer sealed": infer_request(model, workers=[A]),
            f"{_INFERENCE}/ModelInfer misfit": infer_request(model, tensor=b""),
            f"{_INFERENCE}/ModelReady": oip.ModelReadyRequest(name=model).SerializeToString(),
            f"{_INFERENCE}/ModelMetadata": oip.ModelMetadataRequest(name=model).SerializeToString(),
            f"{_INFERENCE}/ModelMetadata 1": oip.ModelMetadataRequest(name=model, version="1").SerializeToString(),
            f"{_INFERENCE}/RepositoryModelLoad": oip.RepositoryModelLoadRequest(model_name=model).SerializeToString(),
            f"{_INFERENCE}/RepositoryModelUnload": oip.RepositoryModelUnloadRequest(
                model_name=model
            ).SerializeToString(),
            f"{_GATEWAY}/ListWorkers": ListWorkersRequest(model_name=model).SerializeToString(),
        }
        for name, request in requests.items():
            seen.setdefault(name, set()).add(await ann.told(name.split()[0], request))
        for sealed in ((), (A,)):
            request = infer_request(model, identifier="r", workers=sealed)
            seen.setdefault(f"stream {sealed}", set()).add(await ann.item(request))
    assert {name: told for name, told in seen.items() if len(told) > 1} == {}
    assert worker.seen == []
    ((code, details, *_),) = seen[f"{_INFERENCE}/ModelInfer"]
    assert (code, details) == (grpc.StatusCode.NOT_FOUND, "no such model")
    assert (await ann.told(f"{_INFERENCE}/ModelInfer", infer_request("tiny")))[0]
    await ann.channel.close()


@pytest.mark.attack("G26")
async def test_a_tenant_of_many_identities_has_one_share_of_the_gateway(tmp_path: Path, pki: MeshPki) -> None:
    both = f'certificates = ["{certificate("ann")}", "{certificate("ben")}"]'
    text = tenants_text().replace(f'certificates = ["{certificate("ann")}"]', both)
    path = write_tenants(tmp_path / "tenants.toml", text)
    async with running_gateway(tmp_path, pki, tenants_file=path, max_concurrent_per_peer=2) as rig:
        await rig.worker(A, models=MODELS)
        clients = {name: Wire(rig, name) for name in ("ann", "ben")}
        streams = []
        for client in clients.values():
            stream = client.channel.stream_stream(f"{_INFERENCE}/ModelStreamInfer")(timeout=20)
            await stream.write(infer_request("tiny"))
            assert await stream.read()
            streams.append(stream)
        for client in clients.values():
            code, details, *_ = await client.told(f"{_INFERENCE}/ModelInfer", infer_request("tiny"))
            assert (code, details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls of this client are open")
        rose = await rig.oip("owner", "rose")
        assert (await rose.RepositoryIndex(oip.RepositoryIndexRequest(), timeout=5)).models
        for stream in streams:
            stream.cancel()
        for client in clients.values():
            await client.channel.close()


async def test_what_a_tenant_sees_is_all_it_is_told_of(rig: Rig) -> None:
    await rig.worker(A, models=MODELS)
    for role, name, models in (("client", "ann", {"tiny"}), ("owner", "rose", {"tiny", "secret"})):
        stub = await rig.oip(role, name)
        index = await stub.RepositoryIndex(oip.RepositoryIndexRequest(), timeout=5)
        assert {model.name for model in index.models} == models
    operator = await rig.oip("operator", "olga")
    assert len((await operator.RepositoryIndex(oip.RepositoryIndexRequest(), timeout=5)).models) == 2
    rose = (await rig.peer("owner", "rose")).stub(GatewayStub)
    assert (await rose.ListWorkers(ListWorkersRequest(model_name="secret"), timeout=5)).workers


async def test_who_is_no_tenant_is_told_so_and_gets_nothing(rig: Rig) -> None:
    worker = await rig.worker(A, models=MODELS)
    bob, gateway = await rig.oip(name="bob"), (await rig.peer(name="bob")).stub(GatewayStub)
    calls: list[Awaitable[Any]] = [
        ask(await rig.raw("bob")),
        bob.RepositoryIndex(oip.RepositoryIndexRequest(), timeout=5),
        bob.ModelMetadata(oip.ModelMetadataRequest(name="tiny"), timeout=5),
        bob.ModelReady(oip.ModelReadyRequest(name="tiny"), timeout=5),
        gateway.ListWorkers(ListWorkersRequest(model_name="tiny"), timeout=5),
        (await rig.raw("bob")).stream(timeout=5).read(),
    ]
    for call in calls:
        with pytest.raises(Unauthenticated) as raised:
            await call
        assert raised.value.reason == "tenant.unknown"
    assert worker.seen == []


@pytest.mark.attack("G23")
async def test_over_grpc_a_token_in_the_metadata_makes_nobody_somebody_else(rig: Rig) -> None:
    await rig.worker(A, models=MODELS)
    stub = await rig.raw("ann")
    for key in ("authorization", "x-api-key", "x-tenant", "x-cloister-peer"):
        with pytest.raises(NotFound):
            await stub.infer(infer_request("secret"), timeout=5, metadata=((key, "Bearer research"), (key, "research")))
        await stub.infer(infer_request("tiny"), timeout=5, metadata=((key, "nobody"),))


@pytest.mark.attack("J04")
async def test_what_others_use_only_operators_and_auditors_are_told(rig: Rig) -> None:
    await rig.worker(A, models=MODELS)
    await ask(await rig.raw("ann"))
    with pytest.raises(NotFound):
        await ask(await rig.raw("ann"), name="secret")
    for role, name in (("client", "ann"), ("owner", "rose")):
        with pytest.raises(NotAllowed):
            await (await rig.peer(role, name)).stub(GatewayStub).GetStatus(GetStatusRequest(), timeout=5)
    auditor = (await rig.peer("auditor", "al")).stub(GatewayStub)
    assert (await auditor.GetStatus(GetStatusRequest(), timeout=5)).tenants
    (use,) = (await rig.status()).tenants
    assert (use.tenant, use.spiffe_id, use.answered_total, use.failed_total) == ("radiology", "", 1, 1)


async def test_a_changed_file_holds_at_once_for_new_calls_and_for_open_streams(
    tmp_path: Path, pki: MeshPki, path: Path
) -> None:
    both = tenants_text() + f'[tenants.carol]\nmodels = ["tiny"]\ncertificates = ["{certificate("carol")}"]\n'
    write_tenants(path, both)
    async with running_gateway(tmp_path, pki, tenants_file=path) as rig:
        await rig.worker(A, models=MODELS)
        ann, carol = await rig.raw("ann"), await rig.raw("carol")
        streams = [stub.stream(timeout=60) for stub in (ann, carol)]
        for stream in streams:
            await stream.write(infer_request("tiny"))
            assert not (await next_item(stream)).error_message
        write_tenants(path, both.replace('["tiny"]', "[]", 1))  # ann sees nothing any more
        async with asyncio.timeout(5):
            while True:
                await streams[0].write(infer_request("tiny", identifier="r"))
                item = await next_item(streams[0])
                if item.error_message:
                    break
        assert item.infer_response.parameters["cloister-error"].string_param == "NotFound"
        with pytest.raises(NotFound):
            await ask(ann)
        write_tenants(path, both.replace('["tiny"]', "all", 1))  # what makes no sense changes nothing
        await asyncio.sleep(0.7)
        with pytest.raises(NotFound):
            await ask(ann)
        write_tenants(path, both.replace(certificate("ann"), certificate("anna")))  # ann is nobody's
        async with asyncio.timeout(5):
            with pytest.raises(Unauthenticated):
                await streams[0].read()
        await streams[1].write(infer_request("tiny"))
        assert not (await next_item(streams[1])).error_message
        with pytest.raises(Unauthenticated):
            await ask(ann)
        streams[1].cancel()


async def test_limits_are_the_tenants_and_follow_the_file(tmp_path: Path, pki: MeshPki, path: Path) -> None:
    two = tenants_text().replace(f'["{certificate("ann")}"]', f'["{certificate("ann")}", "{certificate("andy")}"]')
    write_tenants(path, two.replace('models = ["tiny"]', 'models = ["tiny"]\nrate = 0.001\nburst = 2'))
    async with running_gateway(tmp_path, pki, tenants_file=path) as rig:
        await rig.worker(A, models=MODELS)
        await ask(await rig.raw("ann"))
        await ask(await rig.raw("andy"))
        for name in ("ann", "andy"):
            with pytest.raises(Overloaded) as raised:
                await ask(await rig.raw(name))
            assert raised.value.reason == "tenant.too_fast"
        write_tenants(path, two)
        async with asyncio.timeout(5):
            while True:
                try:
                    await ask(await rig.raw("ann"))
                    break
                except Overloaded:
                    await asyncio.sleep(0.05)


@pytest.mark.attack("J03")
async def test_metrics_name_the_tenants_of_the_file_and_nobody_else(tmp_path: Path, pki: MeshPki, path: Path) -> None:
    write_tenants(path, "unlisted_certificates = true\n" + tenants_text())
    listen = f"127.0.0.1:{free_port()}"
    async with running_gateway(tmp_path, pki, tenants_file=path, metrics_listen=listen) as rig:
        await rig.worker(A, models=MODELS)
        await ask(await rig.raw("ann"))
        for number in range(5):
            await ask(await rig.raw(f"made-up-{number}"))
            with pytest.raises(NotFound):
                await ask(await rig.raw(f"made-up-{number}"), name=f"model-{number}")
        async with httpx.AsyncClient() as http:
            page = (await http.get(f"http://{listen}/metrics")).text
        assert 'cloister_tenant_requests_total{outcome="answered",tenant="radiology"} 1.0' in page
        assert 'cloister_tenant_requests_total{outcome="answered",tenant="other"} 5.0' in page
        assert 'cloister_tenant_requests_total{outcome="failed",tenant="other"} 5.0' in page
        assert "made-up" not in page
        assert "model-" not in page


@pytest.mark.attack("J05")
@pytest.mark.attack("J06")
@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (tenants_text(), 0o660, "chmod go-w"),
        (tenants_text(), 0o602, "chmod go-w"),
        ("[tenants.a]\n", 0o600, "say which models"),
        ("[tenants.a]\nmodels = []\nsecret = 1\n", 0o600, "unknown key"),
        ("[tenants.a]\nmodels = []\nrate = -1.0\n", 0o600, "rate must be"),
        ('[issuers.a]\nissuer = "i"\naudience = "a"\njwks_file = "none.json"\n', 0o600, "none.json cannot be read"),
        ('[issuers.a]\nissuer = "i"\naudience = "a"\njwks_file = "tenants.toml"\n', 0o600, "not a JSON Web Key Set"),
    ],
)
async def test_a_gateway_does_not_start_with_a_file_that_is_open_or_makes_no_sense(
    tmp_path: Path, pki: MeshPki, path: Path, text: str, mode: int, says: str
) -> None:
    write_tenants(path, text, mode)
    with pytest.raises(InvalidRequest, match=says) as raised:
        async with running_gateway(tmp_path, pki, tenants_file=path):
            pass
    assert str(raised.value).startswith("tenants_file: ")


@pytest.mark.attack("J05")
async def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path, pki: MeshPki) -> None:
    inside, outside = tmp_path / "inside", write_tenants(tmp_path / "tenants.toml", tenants_text())
    inside.mkdir()
    (inside / "tenants.toml").symlink_to(outside)
    with pytest.raises(InvalidRequest, match="leads out of its folder"):
        async with running_gateway(tmp_path, pki, tenants_file=inside / "tenants.toml"):
            pass
