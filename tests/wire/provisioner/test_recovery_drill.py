"""The drill: a recovery key is dealt, the root key is lost, and two of three owners restore what was kept.

The provisioner is the real one, from its start to its end, and what people do of recovery they do by commands.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.cli import identities, recovery_files
from cloister.cli.failures import ExitCode
from cloister.cli.founding import Plan, found
from cloister.client import OwnerClient, seal_to
from cloister.errors import NotReady, Unavailable
from cloister.kit.config import load
from cloister.kit.lifecycle import Lifecycle
from cloister.provisioner import app
from cloister.provisioner.settings import Settings
from fakes import commands

OWNERS = ("main", "bob", "carol")


class Drill:
    """One mesh folder, of which only the provisioner runs, and three owners with recovery keys."""

    def __init__(self, folder: Path) -> None:
        now, port = datetime.now(UTC), 20_000 + 16 * secrets.randbelow(600)
        plan = Plan(
            folder=folder / "mesh",
            cluster="test.cloister.internal",
            models=["iris"],
            hosts=(),
            simulated=False,
            first_port=port,
        )
        self.mesh = found(plan, now)
        self.root_key = self.mesh.folder / "provisioner" / "root.key"
        root = identities.mesh_root(self.mesh)
        for name in OWNERS:
            if name != "main":
                identities.issue(root, self.mesh.cluster, "owner", name, self.of(name), now=now)
            recovery_files.make(self.of(name))
        self.cards = [self.of(name) / recovery_files.CARD for name in OWNERS]

    def of(self, name: str) -> Path:
        """The folder of an owner's identity."""
        return self.mesh.folder / "identities" / "owner" / name

    async def run(self, *words: str | Path, by: str = "", code: int = 0) -> str:
        """A command, as a person types it."""
        who = ("--identity", self.of(by)) if by else ()
        given = [str(word) for word in (*words, *who, "--mesh", self.mesh.folder)]
        ended, said = await asyncio.to_thread(commands.run, given, {**os.environ, "COLUMNS": "200"}, None, 60)
        assert ended == code, f"{given}: {said}"
        return said

    async def told(self, *words: str | Path) -> Any:
        return json.loads(await self.run(*words, "--json"))

    def status(self) -> tuple[int, str]:
        """What an operator sees."""
        return commands.run(["status", str(self.mesh.folder)], {**os.environ, "COLUMNS": "200"}, None, 60)

    @asynccontextmanager
    async def provisioner(self) -> AsyncIterator[None]:
        """Started as its program starts it, until the block ends."""
        settings = load(Settings, self.mesh.settings("provisioner"), {}, prefix="CLOISTER_PROVISIONER_")
        async with Lifecycle.running() as lifecycle, asyncio.TaskGroup() as group:
            group.create_task(app.serve(replace(settings, verifier="", grace_s=2.0), lifecycle))
            await asyncio.to_thread(self.wait)
            yield
            lifecycle.stop()

    def wait(self) -> None:
        """Until the provisioner answers."""
        words = ["recovery", "status", "--mesh", str(self.mesh.folder)]
        until_s = time.monotonic() + 60
        while "peer.unavailable" in commands.run(words, dict(os.environ), None, within_s=60)[1]:
            assert time.monotonic() < until_s

    async def models(self) -> list[str]:
        """What the first owner has published."""
        async with OwnerClient.connect(self.mesh.provisioner, identity=self.of("main")) as owner, asyncio.timeout(60):
            while True:
                try:
                    return [model.name for model in await owner.models()]
                except (NotReady, Unavailable):  # what served recovery gives way to what serves all
                    await asyncio.sleep(0.1)

    async def publish(self, folder: Path) -> None:
        """Register a model of the first owner's."""
        (folder / "model.xml").write_text("<net/>")
        files = {"model.xml": folder / "model.xml"}
        signer = identities.signing_key(self.of("main"))
        sealed = seal_to(folder / "model.sealed", files, name="iris", version=1, signer=signer)
        async with OwnerClient.connect(self.mesh.provisioner, identity=self.of("main")) as owner:
            await owner.register(sealed.signed, sealed.key)


@pytest.mark.attack("F12")
async def test_two_of_three_owners_restore_what_a_lost_root_key_had_wrapped(tmp_path: Path) -> None:
    drill = await asyncio.to_thread(Drill, tmp_path)
    async with drill.provisioner():
        await drill.publish(tmp_path)
        first, agreed = ("recovery", "deal", *drill.cards, "-k", "2"), tmp_path / "agreed.json"
        assert "recovery.unordered" in await drill.run(*first, code=3)
        await drill.run("recovery", "order", *drill.cards, "-k", "2", "--out", agreed, by="main")
        assert "dealt recovery key 1: 2 of 3" in await drill.run(*first, "--order", agreed)
        assert "it opens" in await drill.run("recovery", "shares", by="main")
        assert "recovery.not_needed" in await drill.run("recovery", "restore", "--yes", by="main", code=1)

    lost = drill.root_key.read_bytes()
    drill.root_key.write_bytes(b"n" * 32)
    async with drill.provisioner():
        state = await drill.told("recovery", "status")
        assert (state["root_lost"], state["session"], state["secrets"]) == (True, None, 2)
        assert "root_key.other" in await drill.run("model", "list", code=1)
        ended, status = await asyncio.to_thread(drill.status)
        assert ended == ExitCode.UNAVAILABLE
        assert "waits for shares" in status
        assert "provisioner: the stored keys were wrapped under a root key that is not here" in status
        assert "1 more is needed" in await drill.run("recovery", "restore", "--yes", by="main")
        assert "share.given" in await drill.run("recovery", "restore", "--yes", by="main", code=1)
        # Carol keeps no file of her share; it lies with the provisioner, sealed to her.
        said = await drill.run("recovery", "restore", "--yes", by="carol")
        assert "restored: 2 keys lie under today's root key" in said
        await asyncio.to_thread(drill.wait)
        assert await drill.models() == ["iris"]
        lines = [line for line in await drill.told("audit", "list") if line["event"].startswith("recovery.")]
        told = ["dealt", "begun", "share_given", "refused", "share_given", "restored"]
        assert [line["event"] for line in lines] == [f"recovery.{each}" for each in told]
        assert lines[3]["reason"] == "share.given"

        order = tmp_path / "order.json"
        again = ("recovery", "deal", *drill.cards[1:], "-k", "2")
        assert "recovery.unordered" in await drill.run(*again, code=3)
        for name in ("main", "carol"):
            said = await drill.run("recovery", "order", *drill.cards[1:], "-k", "2", "--out", order, by=name)
        assert "signed by 2 of 3 present holders; it takes 2" in said
        assert "dealt recovery key 2: 2 of 2" in await drill.run(*again, "--order", order)
        assert "You hold no share" in await drill.run("recovery", "status", by="main")

    async with drill.provisioner():
        assert await drill.models() == ["iris"]
    drill.root_key.write_bytes(lost)  # under which nothing lies any more
    async with drill.provisioner():
        assert (await drill.told("recovery", "status"))["root_lost"]
