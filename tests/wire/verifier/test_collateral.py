"""A verifier that fetches its collateral, over TLS, for workers of several platform families."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import SigningKey
from cloister.errors import EvidenceRejected, InvalidRequest, NotReady
from cloister.verifier.settings import Settings
from cloister_simulator.platform import Platform
from fakes import pcs_server
from fakes.held_collateral import other_family
from fakes.pcs_server import PcsServer, serving
from fakes.pki import MeshPki
from fakes.running_services import CALL_S, Running, WireWorker, running_verifier, verifier_settings

JOINED, GONE, CURRENT = (pb.AttestedEvent.KIND_JOINED, pb.AttestedEvent.KIND_GONE, pb.AttestedEvent.KIND_CURRENT)


@pytest.fixture
def other(platform: Platform) -> Platform:
    return other_family(platform)


@pytest.fixture
def service(pki: MeshPki, platform: Platform, other: Platform) -> Iterator[PcsServer]:
    """A PCCS that knows both families."""
    with serving(PcsServer([platform.collateral(), other.collateral()], cache=True), pki) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey, service: PcsServer) -> Settings:
    """Of a verifier that has nothing but the service's address."""
    ca_file = tmp_path / "pccs_ca.pem"
    ca_file.write_bytes(pki.roots_pem)
    return replace(
        verifier_settings(tmp_path, pki, platform, signing_key),
        collateral=None,
        collateral_url=service.url,
        collateral_ca_file=ca_file,
    )


async def reason(verifier: Running, worker: WireWorker) -> str:
    """Why the worker is not believed now; empty if it is."""
    async with verifier.as_role("enrol") as enrol:
        try:
            await worker.appraised(enrol)
        except NotReady as refused:
            return refused.reason
    return ""


async def believed_soon(verifier: Running, worker: WireWorker) -> None:
    """As a worker does: again, after a while."""
    async with asyncio.timeout(30):
        while await reason(verifier, worker):  # noqa: ASYNC110  # who asks is on the other end of a wire
            await asyncio.sleep(0.02)


async def last_record(verifier: Running) -> dict[str, Any]:
    async with verifier.as_role("auditor") as auditor:
        stub: Any = auditor.stub(VerifierStub)
        entries = [one async for one in stub.ListAppraisals(pb.ListAppraisalsRequest(), timeout=CALL_S)]
    found: dict[str, Any] = json.loads(entries[-1].record)
    return found


async def test_a_family_that_nobody_has_collateral_for_is_fetched(
    settings: Settings, pki: MeshPki, platform: Platform, service: PcsServer
) -> None:
    async with running_verifier(settings, pki) as verifier:
        worker = WireWorker(pki, platform)
        assert await reason(verifier, worker) == "collateral.family_unknown"
        record = await last_record(verifier)
        assert (record["event"], record["reason"]) == ("evidence.rejected", "collateral.family_unknown")
        assert (record["tee"], record["fmspc"], record["pck_ca"]) == ("sgx", platform.fmspc.hex(), "platform")
        await believed_soon(verifier, worker)
    asked = [path.split("/v4/")[1] for path in service.heard]
    assert asked[0] == f"tcb?fmspc={platform.fmspc.hex()}&update=standard"
    assert len(asked) == 4


async def test_what_was_fetched_is_there_after_a_restart_without_the_service(
    settings: Settings, pki: MeshPki, platform: Platform, service: PcsServer
) -> None:
    async with running_verifier(settings, pki) as verifier:
        await believed_soon(verifier, WireWorker(pki, platform))
        await asyncio.to_thread(_kept, settings.state_dir)
    service.misbehaves = pcs_server.answers(503)
    async with running_verifier(settings, pki) as verifier:
        assert await reason(verifier, WireWorker(pki, platform)) == ""


def _kept(state_dir: Path) -> None:
    """Wait until it is on disk, which it is shortly after it is in force."""
    deadline = time.monotonic() + 10
    while not (state_dir / "collateral-fetched.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


async def test_workers_of_two_families_are_believed_side_by_side(
    settings: Settings, pki: MeshPki, platform: Platform, other: Platform, tmp_path: Path
) -> None:
    first = tmp_path / "collateral.json"  # one family from a file, the other from the service
    async with running_verifier(replace(settings, collateral=first, collateral_refresh_s=60.0), pki) as verifier:
        assert await reason(verifier, WireWorker(pki, platform)) == ""
        await believed_soon(verifier, WireWorker(pki, other))
        assert await reason(verifier, WireWorker(pki, platform)) == ""


@pytest.mark.attack("G27")
async def test_no_word_of_an_attester_leads_anywhere_else(
    settings: Settings, pki: MeshPki, platform: Platform, service: PcsServer
) -> None:
    forged = Platform.generate(platform.window.issued_at)  # under a root of its own
    forged.fmspc = bytes.fromhex("0a0b0c0d0e0f")
    async with running_verifier(settings, pki) as verifier:
        async with verifier.as_role("enrol") as enrol:
            with pytest.raises(EvidenceRejected):
                await WireWorker(pki, forged).appraised(enrol)
        assert (await last_record(verifier))["reason"] == "anchor.untrusted"
        await believed_soon(verifier, WireWorker(pki, platform))
    assert not [path for path in service.heard if forged.fmspc.hex() in path]


async def test_a_source_that_is_no_address_is_a_mistake_in_the_settings(settings: Settings) -> None:
    for url in ("http://pccs.example", "https://user:secret@pccs.example"):
        with pytest.raises(InvalidRequest) as refused:
            replace(settings, collateral_url=url)
        assert refused.value.reason == "pcs.url_invalid"


@pytest.mark.attack("B18")
async def test_a_platform_that_intel_revokes_is_put_out_and_let_in_again_when_that_is_withdrawn(
    settings: Settings, pki: MeshPki, platform: Platform, other: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "collateral.json"

    def publish(minutes: int, *, revoked: bool) -> None:
        platform.revoked = {"pck"} if revoked else set()
        platform.reissue(datetime.now(UTC) + timedelta(minutes=minutes))
        staged = tmp_path / "collateral.new"
        staged.write_bytes(platform.collateral())
        staged.rename(file)

    settings = replace(settings, collateral=file, collateral_url="")
    worker = WireWorker(pki, platform)
    async with running_verifier(settings, pki) as verifier, verifier.as_role("operator") as operator:
        assert await reason(verifier, worker) == ""
        stub: Any = operator.stub(VerifierStub)
        events = aiter(stub.WatchAttested(pb.WatchAttestedRequest(), timeout=CALL_S))
        assert [(await anext(events)).kind for _ in range(2)] == [JOINED, CURRENT]
        publish(10, revoked=True)
        with pytest.raises(EvidenceRejected):  # which is how the verifier comes to look at the file at once
            await reason(verifier, WireWorker(pki, platform))
        gone = await anext(events)
        assert (gone.kind, gone.worker.instance, gone.reason) == (GONE, worker.instance, "revoked")
        publish(20, revoked=False)
        assert await reason(verifier, WireWorker(pki, platform)) == ""
        assert (await anext(events)).kind == JOINED
