"""The tenants file is followed; one that makes no sense, or that others could have written, changes nothing."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest, NotReady
from cloister.gateway import followed_file
from cloister.gateway.tenant_file import TenantsFile
from cloister.gateway.tenants_watch import tenants_watch
from fakes.pki import CLUSTER
from fakes.tenants import write_tenants

ONE, TWO = ("".join(f"[tenants.{name}]\nmodels = []\n" for name in names) for names in ("a", "ab"))


class Following:
    """Who is told of each content; refuses a tenant called `c`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.told = asyncio.Event()

    async def use(self, file: TenantsFile, folder: Path) -> None:
        if "c" in file.tenants:  # offered again and again while it is there
            raise InvalidRequest("no", reason="tenants.invalid")
        self.names.append("".join(file.tenants))
        self.told.set()

    async def next(self) -> None:
        self.told.clear()
        async with asyncio.timeout(5):
            await self.told.wait()


@pytest.mark.attack("J05")
@pytest.mark.attack("J06")
async def test_a_file_that_makes_no_sense_or_is_open_keeps_the_old_one_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    monkeypatch.setattr(followed_file, "POLL_S", 0.001)
    path, following = write_tenants(tmp_path / "tenants.toml", ONE), Following()
    watch = tenants_watch(path, CLUSTER, following.use)
    await watch.read()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch.watching())
        for wrong, mode in ((ONE + "x = 1", 0o600), (TWO, 0o666), (ONE + "[tenants.c]\nmodels = []", 0o600)):
            before = logged.getvalue().count("tenants.kept")
            write_tenants(path, wrong, mode)
            async with asyncio.timeout(5):
                while logged.getvalue().count("tenants.kept") == before:  # noqa: ASYNC110 - a log is looked at
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            assert logged.getvalue().count("tenants.kept") == before + 1
        assert following.names == ["a"]
        write_tenants(path, TWO)
        await following.next()
        assert following.names == ["a", "ab"]
        write_tenants(path, TWO + "# a comment\n")
        await following.next()
        watching.cancel()
    assert following.names == ["a", "ab", "ab"]


async def test_there_must_be_one_at_first(tmp_path: Path) -> None:
    watch = tenants_watch(tmp_path / "tenants.toml", CLUSTER, Following().use)
    with pytest.raises(NotReady, match="cannot be read"):
        await watch.read()
