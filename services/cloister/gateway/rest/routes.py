"""The paths of the Open Inference Protocol over REST, and which call each of them is.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from cloister.api.oip import inference_pb2 as oip
from cloister.errors import InvalidRequest, NotFound, Unavailable
from cloister.gateway.rest.calls import RestCalls
from cloister.gateway.rest.infer_answer import HEADER_LENGTH, JSON_TYPE, infer_answer
from cloister.gateway.rest.infer_request import Wanted, flag, members, object_of, read_infer, set_parameters
from cloister.gateway.rest.jobs import job_routes
from cloister.gateway.rest.predict import Predict
from cloister.gateway.rest.strict_json import parse

_MAX_NAME: Final = 256


def rest_routes(calls: RestCalls, document: bytes) -> Router:
    """The ASGI app.

    Args:
        calls: Makes calls of requests.
        document: The OpenAPI document of what is here.
    """
    here = _Endpoints(calls, document)
    gets: Sequence[tuple[str, Any]] = [
        ("/openapi.json", here.openapi),
        ("/v2", here.server),
        ("/v2/health/live", here.live),
        ("/v2/health/ready", here.ready),
        *_versioned("", here.model),
        *_versioned("/ready", here.model_ready),
    ]
    posts: Sequence[tuple[str, Any]] = [
        *_versioned("/infer", here.infer),
        ("/v2/repository/index", here.index),
        ("/v2/repository/models/{model}/load", here.load),
        ("/v2/repository/models/{model}/unload", here.unload),
        ("/v1/models/{model}:predict", here.predict),
        ("/models/{model}/versions/{version}/predict", here.predict),
    ]
    return Router(
        [
            *(Route(path, endpoint, methods=["GET"]) for path, endpoint in gets),
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts),
            *job_routes(calls),
        ],
        redirect_slashes=False,
    )


class _Endpoints:
    """An endpoint each."""

    def __init__(self, calls: RestCalls, document: bytes) -> None:
        self._calls = calls
        self._document = document

    async def openapi(self, _request: Request) -> Response:
        return Response(self._document, media_type=JSON_TYPE)

    async def live(self, _request: Request) -> Response:
        raw = await self._calls.open("ServerLive", oip.ServerLiveRequest())
        return _json({"live": oip.ServerLiveResponse.FromString(raw).live})

    async def ready(self, _request: Request) -> Response:
        raw = await self._calls.open("ServerReady", oip.ServerReadyRequest())
        if not oip.ServerReadyResponse.FromString(raw).ready:
            raise Unavailable("no worker takes calls now")
        return _json({"ready": True})

    async def server(self, request: Request) -> Response:
        raw, headers = await self._calls.call(request, "ServerMetadata", _says(oip.ServerMetadataRequest()))
        answer = oip.ServerMetadataResponse.FromString(raw)
        extensions = [*(each for each in answer.extensions if each not in _GRPC_ONLY), *_REST_EXTENSIONS]
        return _json({"name": answer.name, "version": answer.version, "extensions": extensions}, headers)

    async def model(self, request: Request) -> Response:
        name, version = _asked(request)
        message = oip.ModelMetadataRequest(name=name, version=version)
        raw, headers = await self._calls.call(request, "ModelMetadata", _says(message))
        answer = oip.ModelMetadataResponse.FromString(raw)
        said: dict[str, Any] = {
            "name": answer.name,
            "versions": list(answer.versions),
            "platform": answer.platform,
            "inputs": _tensors(answer.inputs),
            "outputs": _tensors(answer.outputs),
        }
        if answer.properties:
            said["properties"] = dict(answer.properties)
        return _json(said, headers)

    async def model_ready(self, request: Request) -> Response:
        name, version = _asked(request)
        message = oip.ModelReadyRequest(name=name, version=version)
        raw, headers = await self._calls.call(request, "ModelReady", _says(message))
        if not oip.ModelReadyResponse.FromString(raw).ready:
            raise NotFound(f"model '{name}' is not ready", reason="model.not_ready")
        return _json({"name": name, "ready": True}, headers)

    async def infer(self, request: Request) -> Response:
        name, version = _asked(request)
        length = _header_length(request)
        wanted = Wanted()

        async def message(body: bytes) -> bytes:
            nonlocal wanted
            if length is not None and length > len(body):
                raise InvalidRequest(f"{HEADER_LENGTH} is more than the body has")
            json_bytes = len(body) if length is None else length
            raw, wanted = await self._calls.worked(json_bytes, read_infer, body, length, name, version)
            return raw

        raw, headers = await self._calls.call(request, "ModelInfer", message)
        response = await self._calls.worked(0 if wanted.binary else len(raw), infer_answer, raw, wanted)
        self._calls.written(len(raw), len(response.body))
        response.headers.update(headers)
        return response

    async def predict(self, request: Request) -> Response:
        name, version = _asked(request)
        predict = Predict(name, version)

        async def message(body: bytes) -> bytes:
            raw = await self._calls.open("ModelMetadata", oip.ModelMetadataRequest(name=name, version=version))
            return await self._calls.worked(len(body), predict.read, body, oip.ModelMetadataResponse.FromString(raw))

        raw, headers = await self._calls.call(request, "ModelInfer", message)
        text = await self._calls.worked(len(raw), predict.answer, raw)
        self._calls.written(len(raw), len(text))
        return Response(text, 200, headers, JSON_TYPE)

    async def index(self, request: Request) -> Response:
        async def message(body: bytes) -> bytes:
            said = members(parse(body), frozenset({"ready"}), "the request") if body else {}
            return oip.RepositoryIndexRequest(ready=flag(said.get("ready", False), "ready")).SerializeToString()

        raw, headers = await self._calls.call(request, "RepositoryIndex", message)
        models = oip.RepositoryIndexResponse.FromString(raw).models
        said = [{"name": m.name, "version": m.version, "state": m.state, "reason": m.reason} for m in models]
        return _json(said, headers)

    async def load(self, request: Request) -> Response:
        return await self._order(request, "RepositoryModelLoad", oip.RepositoryModelLoadRequest)

    async def unload(self, request: Request) -> Response:
        return await self._order(request, "RepositoryModelUnload", oip.RepositoryModelUnloadRequest)

    async def _order(self, request: Request, method: str, request_class: Any) -> Response:
        name, _ = _asked(request)

        async def message(body: bytes) -> bytes:
            said = members(parse(body), frozenset({"parameters"}), "the request") if body else {}
            order = request_class(model_name=name)
            set_parameters(order.parameters, object_of(said, "parameters", "the request"))
            raw: bytes = order.SerializeToString()
            return raw

        _, headers = await self._calls.call(request, method, message)
        return _json({}, headers)


_GRPC_ONLY: Final = frozenset({"model_stream_infer"})
_REST_EXTENSIONS: Final = ("binary_tensor_data",)


def _versioned(what: str, endpoint: Any) -> Sequence[tuple[str, Any]]:
    return [
        ("/v2/models/{model}" + what, endpoint),
        ("/v2/models/{model}/versions/{version}" + what, endpoint),
    ]


def _asked(request: Request) -> tuple[str, str]:
    """Model and version of the path, if they could be some."""
    name, version = request.path_params["model"], request.path_params.get("version", "")
    if not (name + version).isascii() or len(name + version) > _MAX_NAME:
        raise NotFound("no such model")
    return name, version


def _header_length(request: Request) -> int | None:
    """How much of a body is JSON, where it says so."""
    given = request.headers.getlist(HEADER_LENGTH)
    if not given:
        return None
    if len(given) > 1 or not given[0].isascii() or not given[0].isdecimal() or len(given[0]) > 10:
        raise InvalidRequest(f"{HEADER_LENGTH} is not one number of bytes")
    return int(given[0])


def _says(message: Any) -> Any:
    async def serialised(_body: bytes) -> bytes:
        raw: bytes = message.SerializeToString()
        return raw

    return serialised


def _tensors(tensors: Any) -> list[dict[str, Any]]:
    return [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in tensors]


def _json(content: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), 200, headers, JSON_TYPE)
