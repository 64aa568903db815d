"""Asks a live MLServer, and keeps what it answers: `python -m differential FILE`; see `make differential`.

MLServer has an environment of its own, which `make` installs from benchmarks/peers/mlserver/requirements.lock.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

import grpc.aio
import httpx

from differential.asks import COUNT, SEED, asks
from differential.record import over_grpc, over_rest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers/mlserver/bin/python"
QUIET = {"GRPC_VERBOSITY": "NONE"}
VERSIONS = (
    "import importlib.metadata as m; print({n: m.version(n) for n in ('mlserver', 'grpcio', 'fastapi', 'numpy')})"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def said(words: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(PYTHON, *words, stdout=-1)
    return (await process.communicate())[0].decode()


async def recorded() -> dict[str, Any]:
    ports = free_port(), free_port()
    server = await asyncio.create_subprocess_exec(
        PYTHON, str(Path(__file__).with_name("mlserver_server.py")), *map(str, ports), env=QUIET
    )
    try:
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{ports[0]}") as channel,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[1]}", timeout=20, trust_env=False) as client,
        ):
            await until_ready(client)

            async def post(path: str, body: bytes) -> tuple[int, bytes]:
                headers = {"content-type": "application/json", "connection": "close"}
                answer = await client.post(path, content=body, headers=headers)
                return answer.status_code, answer.content

            told = {"grpc": await over_grpc(channel, asks()), "rest": await over_rest(post, asks())}
    finally:
        server.terminate()
        await server.wait()
    kept = {carrier: {str(n): each.text() for n, each in found.items()} for carrier, found in told.items()}
    return {"server": (await said(["-c", VERSIONS])).strip(), "seed": SEED, "count": COUNT, **kept}


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.get("/v2/health/ready")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(asyncio.run(recorded()), indent=0, ensure_ascii=False) + "\n")
