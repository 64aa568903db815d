"""Paths of the console: three pages and what they are made of, and two documents of JSON that they ask for.

Pages and scripts are files of ours that hold nothing of the mesh; what is of the mesh comes as JSON, and scripts put it
into the page as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from cloister.console.evidence_view import evidence_view
from cloister.console.overview import overview
from cloister.console.watch import MeshWatch
from cloister.errors import NotFound

_TYPES: Final = {"html": "text/html", "css": "text/css", "mjs": "text/javascript", "svg": "image/svg+xml"}
_PAGES: Final = {"/": "mesh.html", "/worker": "worker.html", "/receipt": "receipt.html"}


def pages(watch: MeshWatch, cluster: str, now: Callable[[], datetime]) -> ASGIApp:
    """Everything behind the door."""

    async def mesh(_: Request) -> Response:
        return _json(overview(await watch.current(), cluster, now()))

    async def evidence(request: Request) -> Response:
        instance = request.path_params["instance"]
        judged = (await watch.current()).evidence.get(instance)
        if judged is None:
            raise NotFound("no worker of this name is attested now; the record says what became of it")
        return _json(evidence_view(instance, judged))

    api = [Route("/api/mesh", mesh), Route("/api/evidence/{instance}", evidence)]
    content = {path: _file(name) for path, name in _PAGES.items()}
    content |= {f"/static/{name}": _file(name) for name in _names() if not name.endswith(".html")}
    return Router([*api, *(Route(path, _answering(*found)) for path, found in content.items())])


def _names() -> list[str]:
    return [each.name for each in files("cloister.console").joinpath("static").iterdir()]


def _file(name: str) -> tuple[bytes, str]:
    """Read once: what is served is what was there at the start."""
    kind = _TYPES[name.rpartition(".")[2]]
    return files("cloister.console").joinpath("static", name).read_bytes(), f"{kind}; charset=utf-8"


def _answering(body: bytes, content_type: str) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        return Response(body, headers={"content-type": content_type})

    return answer


def _json(content: object) -> Response:
    return Response(json.dumps(content, allow_nan=False).encode(), headers={"content-type": "application/json"})
