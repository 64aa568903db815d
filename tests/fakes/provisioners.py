"""Provisioners as processes of their own, which can be stopped, continued and killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloister.client import is_serving, list_models
from cloister.errors import CloisterError
from cloister.provisioner.settings import Settings
from cloister.rpc.channel import Peer
from fakes.pki import MeshPki
from fakes.programs import program, written

WAIT_S = 30.0


@dataclass
class ProvisionerProcess:
    """One process."""

    folder: Path
    settings: Settings
    pki: MeshPki
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.settings.listen

    def start(self) -> None:
        """Start it, or start it again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            command = program("provisioner", written(self.folder, self.settings))
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def end(self) -> None:
        """Kill it, whatever it does, and wait until it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def peer(self, role: str, *others: ProvisionerProcess, name: str = "main") -> Peer:
        """A connection to it, and after it to others, in a role."""
        addresses = ",".join(each.address for each in (self, *others))
        return Peer(addresses, self.pki.identity(role, name).held(), f"provisioner.{self.pki.cluster}")

    async def serves(self, *, within_s: float = WAIT_S) -> float:
        """Wait until it says that it serves; returns how long that took, in seconds."""
        return await self._until(True, within_s)

    async def stands_by(self, *, within_s: float = WAIT_S) -> None:
        """Wait until it refuses calls because another writes."""
        await self.refuses("writer.other", within_s=within_s)

    async def refuses(self, reason: str, *, within_s: float = WAIT_S) -> None:
        """Wait until it refuses calls for this reason."""
        async with asyncio.timeout(within_s):
            while await self.refusal() != reason:
                await asyncio.sleep(0.05)

    async def refusal(self) -> str:
        """The reason that it refuses calls with; empty where it serves."""
        async with self.peer("operator") as peer:
            try:
                await list_models(peer)
            except CloisterError as error:
                return error.reason
        return ""

    async def _until(self, serving: bool, within_s: float) -> float:
        began = time.monotonic()
        async with asyncio.timeout(within_s), self.peer("operator") as peer:
            while await is_serving(peer, 2.0) is not serving:
                assert self.process is None or self.process.poll() is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.05)
        return time.monotonic() - began


def provisioner_process(folder: Path, settings: Settings, pki: MeshPki, **changes: Any) -> ProvisionerProcess:
    """One with these settings at a free port; its files are in a folder of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    return ProvisionerProcess(folder, replace(settings, listen=listen, **changes), pki)
