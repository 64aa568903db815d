"""The root key of a running provisioner: gone over to another while workers ask; elsewhere, and out of reach (F11)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.api.v1.provisioner_pb2_grpc import ProvisionerStub
from cloister.client import root_keys, rotate_root
from cloister.errors import NotReady, Unavailable
from cloister.provisioner.models.rotation import ENDED
from cloister.provisioner.settings import Settings
from cloister.provisioner.vaults.settings import TransitSettings, VaultSettings
from cloister.rpc.channel import Peer
from fakes.pki import MeshPki
from fakes.results import MODEL
from fakes.running_services import CALL_S, key_file_vault, private_file, running_provisioner
from fakes.transit_server import PLAIN_TOKEN, TransitServer, serving
from wire.provisioner.conftest import Desk

OPERATOR = "operator"


def over(settings: Settings, upcoming: VaultSettings) -> Settings:
    """The same, with a next root key."""
    return replace(settings, next_vault=upcoming)


async def settled(peer: Peer) -> list[pb.RootKey]:
    """The root keys once nothing lies under any but the first."""
    async with asyncio.timeout(30):
        while True:
            found = await root_keys(peer)
            if not any(each.secrets for each in found[1:]):
                return found
            await asyncio.sleep(0.02)


async def asked(desk: Desk) -> None:
    """A worker is given the key."""
    async with desk.as_worker() as peer:
        await desk.worker.released(peer, desk.token(), MODEL)


async def events(peer: Peer) -> list[str]:
    stub: Any = peer.stub(ProvisionerStub)
    return [json.loads(line.record)["event"] async for line in stub.ListAudit(pb.ListAuditRequest(), timeout=CALL_S)]


async def test_a_root_key_is_gone_over_to_while_workers_ask_and_the_old_one_is_needed_no_more(
    desk: Desk, pki: MeshPki, tmp_path: Path
) -> None:
    settings = over(desk.running.settings, key_file_vault(tmp_path / "next.key"))
    old, new = settings.vault.file, settings.next_vault.file if settings.next_vault else None
    assert old is not None
    assert new is not None
    async with running_provisioner(settings, pki) as desk.running, desk.running.as_role(OPERATOR) as operator:
        await asked(desk)
        with pytest.raises(NotReady, match=r"next\.key cannot be read"):
            await rotate_root(operator)
        private_file(new.key_file, b"n" * 32)
        before = await root_keys(operator)
        assert [(each.back_end, each.wraps, each.secrets > 0) for each in before] == [("file", True, True)]
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(asked(desk))
            begun = group.create_task(rotate_root(operator))
        after = await settled(operator)
        assert (after[0].key_id, after[0].secrets) == (begun.result().to, before[0].secrets)
        assert (after[1].key_id, after[1].secrets) == (before[0].key_id, 0)
        await asked(desk)
        async with desk.running.as_role("auditor") as auditor:
            assert ENDED in await events(auditor)
    new.key_file.rename(old.key_file)
    async with running_provisioner(settings, pki) as desk.running, desk.running.as_role(OPERATOR) as operator:
        assert [each.key_id for each in await root_keys(operator)] == [after[0].key_id]


@pytest.mark.attack("F11")
async def test_a_vault_that_is_out_of_reach_holds_up_nothing_else_and_is_found_again(
    desk: Desk, pki: MeshPki, tmp_path: Path
) -> None:
    server = TransitServer()
    (tmp_path / "ca.pem").write_bytes(pki.roots_pem)
    with serving(server, pki, tmp_path) as transit:
        elsewhere = TransitSettings(
            address=transit.url,
            ca_file=tmp_path / "ca.pem",
            key="cloister",
            token_file=private_file(tmp_path / "token", PLAIN_TOKEN.encode()),
            deadline_s=20.0,
        )
        settings = over(desk.running.settings, VaultSettings(transit=elsewhere))
        async with running_provisioner(settings, pki) as desk.running, desk.running.as_role(OPERATOR) as operator:
            await asked(desk)
            await rotate_root(operator)
            found = await settled(operator)
            assert [each.back_end for each in found] == ["transit", "file"]
            await asked(desk)
            server.sealed = True
            for _ in range(3):
                with pytest.raises(Unavailable) as refused:
                    await asked(desk)
                assert refused.value.reason == "vault.unavailable"
            async with desk.owner() as owner:
                await desk.allow(owner, version=2)
                with pytest.raises(Unavailable):
                    await desk.register(owner, version=3)
                listed: Any = await owner.stub(ProvisionerStub).ListModels(pb.ListModelsRequest(), timeout=CALL_S)
                assert [model.version for model in listed.models] == [2]
            assert [each.secrets for each in await root_keys(operator)] == [found[0].secrets, 0], "no other stood in"
            server.sealed = False
            async with asyncio.timeout(30):
                while True:
                    try:
                        await asked(desk)
                        break
                    except Unavailable:
                        await asyncio.sleep(0.1)


@pytest.mark.attack("F11")
async def test_a_start_without_the_vault_is_refused_and_says_why(desk: Desk, pki: MeshPki, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(pki.roots_pem)
    elsewhere = TransitSettings(
        address="https://127.0.0.1:1",
        ca_file=tmp_path / "ca.pem",
        key="cloister",
        token_file=private_file(tmp_path / "token", PLAIN_TOKEN.encode()),
    )
    with pytest.raises(Unavailable, match="Vault cannot be reached") as refused:
        async with running_provisioner(replace(desk.running.settings, vault=VaultSettings(transit=elsewhere)), pki):
            pass
    assert refused.value.reason == "vault.unavailable"
