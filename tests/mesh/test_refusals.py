"""Who gets no key: each wrong worker against the real services, and what owner and auditor can read of it."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.api.v1.evidence_pb2 import Evidence
from cloister.api.v1.verifier_pb2 import AppraiseRequest, ChallengeRequest, Purpose
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.cli.ports import free_ports
from cloister.errors import ChallengeExpired, CloisterError, EvidenceRejected, Unavailable
from cloister.kit.lifecycle import REFUSED
from cloister.rpc.channel import Peer
from cloister.rpc.spiffe import server_name
from cloister_simulator import store
from cloister_simulator.platform import Platform
from fakes.evil_gateway import held
from fakes.running_mesh import BIN, CLUSTER, MODEL, RunningMesh, another_worker, probe, until
from fakes.sim import ENCLAVE, SampleEvidence, good_evidence

OTHER_MRENCLAVE = "ab" * 32
VERIFIER_ID = f"spiffe://{CLUSTER}/verifier/main"


@pytest.fixture(scope="module")
def strict_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """A mesh of its own with one worker, whose owner has published and allowed nobody yet."""
    running = RunningMesh(tmp_path_factory.mktemp("strict") / "mesh")
    running.found()
    sealed = running.seal(probe())
    with running.up(workers=1):
        running.cli("model", "publish", sealed)
        yield running


def lines(mesh: RunningMesh, record: str, event: str) -> list[dict[str, Any]]:
    """What stands in one of the two records."""
    found: list[dict[str, Any]] = mesh.json("audit", "list", "--record", record)
    return [line for line in found if line["event"] == event]


def refusals(mesh: RunningMesh) -> set[tuple[str, str]]:
    """(MRENCLAVE, reason) of every refused release."""
    return {(line.get("mrenclave", ""), line["reason"]) for line in lines(mesh, "releases", "key.refused")}


def rejections(mesh: RunningMesh) -> set[str]:
    """Reasons of all evidence that was not believed."""
    return {line["reason"] for line in lines(mesh, "appraisals", "evidence.rejected")}


def test_another_measurement_gets_no_key_and_the_owner_reads_why(mesh: RunningMesh) -> None:
    with another_worker(mesh, "--mrenclave", OTHER_MRENCLAVE) as (process, log):
        until(lambda: any(m == OTHER_MRENCLAVE for m, _ in refusals(mesh)), "the refusal is in the record")
        assert process.poll() is None
        said = log.read_text()
    (reason,) = {reason for measured, reason in refusals(mesh) if measured == OTHER_MRENCLAVE}
    assert "measurement" in reason
    assert "key.refused" in said
    assert reason not in said
    owner = mesh.json("audit", "list", "--identity", mesh.identity("owner"))
    assert (OTHER_MRENCLAVE, reason) in {(line.get("mrenclave"), line.get("reason")) for line in owner}


def test_a_debug_enclave_is_not_believed(mesh: RunningMesh) -> None:
    with another_worker(mesh, "--debug-enclave") as (process, log):
        assert process.wait(30) == REFUSED
        said = log.read_text()
    (reason,) = {reason for reason in rejections(mesh) if "debug" in reason}
    assert reason not in said
    assert "debug" not in re.sub(r"--debug-enclave", "", said).lower()


@asynccontextmanager
async def verifier_of(mesh: RunningMesh, address: str = "") -> AsyncIterator[Any]:
    """Speak to the verifier as a starting worker may."""
    address = address or mesh.program("verifier")["address"]
    async with Peer(address, held(mesh.identity("enrol")), server_name(CLUSTER, "verifier")) as peer:
        yield peer.stub(VerifierStub)


async def challenged(verifier: Any, sample: SampleEvidence) -> Any:
    """A challenge for the keys of `sample`."""
    request = ChallengeRequest(purpose=Purpose.PURPOSE_MESH, tls_spki_sha256=sample.claims.tls_spki_sha256)
    return await verifier.Challenge(request, timeout=10)


async def appraised(verifier: Any, challenge: Any, sample: SampleEvidence, claims: bytes = b"") -> Any:
    """Present the evidence of `sample`, under other claims if there are any."""
    spki = sample.tls_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    request = AppraiseRequest(
        challenge_id=challenge.challenge_id,
        evidence=Evidence(claims=claims or sample.claims_bytes, quote=sample.quote),
        tls_spki=spki,
        endpoint="127.0.0.1:1",
    )
    return await verifier.Appraise(request, timeout=10)


async def test_a_nonce_lives_once_and_a_swapped_hpke_key_is_not_quoted(mesh: RunningMesh) -> None:
    platform = store.load(mesh.folder / "simulator", datetime.now(UTC))
    same = {"platform": platform, "cluster": CLUSTER, "audience": VERIFIER_ID}
    keys = good_evidence(**same)
    again = {**same, "tls_key": keys.tls_key}
    async with verifier_of(mesh) as verifier:
        challenge = await challenged(verifier, keys)
        sample = good_evidence(nonce=challenge.nonce, **again)
        assert (await appraised(verifier, challenge, sample)).attestation_result
        with pytest.raises(ChallengeExpired):  # the same evidence a second time
            await appraised(verifier, challenge, sample)

        second = await challenged(verifier, keys)
        with pytest.raises(EvidenceRejected):  # a stale nonce in a new session
            await appraised(verifier, second, sample)

        third = await challenged(verifier, keys)
        sample = good_evidence(nonce=third.nonce, **again)
        other = good_evidence(nonce=third.nonce, **again)
        swapped = sample.claims_bytes.replace(sample.claims.hpke_public, other.claims.hpke_public)
        with pytest.raises(EvidenceRejected) as raised:
            await appraised(verifier, third, sample, swapped)
    assert "binding" not in str(raised.value)
    assert {"nonce.other", "report_data.other"} & rejections(mesh) or len(rejections(mesh)) >= 2


@pytest.mark.attack("C11")
async def test_a_production_verifier_believes_no_simulated_quote(mesh: RunningMesh, tmp_path: Path) -> None:
    folder = mesh.folder / "verifier-production"
    shutil.copytree(mesh.folder / "verifier", folder, ignore=shutil.ignore_patterns("state"))
    settings = (folder / "settings.toml").read_text()
    assert "anchor_root" in settings
    (port,) = free_ports(1, first=30_000)
    address = f"127.0.0.1:{port}"
    settings = re.sub(r"anchor_root.*\n", "", settings)
    settings = re.sub(r"https_listen.*\n", "", settings)
    settings = re.sub(r'listen = ".*"', f'listen = "{address}"', settings)
    # Without one it would not even start; it names the code of the evidence, so that only the quote's root is wrong.
    measured = ENCLAVE.mrenclave.hex()
    policy = f'policy_id = "production"\n[[reference_values]]\nmrenclave = "{measured}"\n'
    (folder / "policy.toml").write_text(policy)
    (folder / "settings.toml").write_text('policy = "policy.toml"\n' + settings)
    log = tmp_path / "verifier.log"
    with log.open("wb") as out:
        command = [BIN / "cloister-verifier", "--settings", folder / "settings.toml"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        platform = store.load(mesh.folder / "simulator", datetime.now(UTC))
        keys = good_evidence(platform=platform, cluster=CLUSTER, audience=VERIFIER_ID)
        async with verifier_of(mesh, address) as verifier:
            with pytest.raises(CloisterError) as raised:
                await presented(verifier, keys, platform)
        # Collateral under a root that is not Intel's is no collateral: it can believe nobody, and says so.
        assert raised.value.reason in {"evidence.rejected", "collateral.unusable"} or "collateral" in str(raised.value)
    finally:
        process.terminate()
        process.wait(20)


async def presented(verifier: Any, keys: SampleEvidence, platform: Platform) -> None:
    """Present good evidence of `keys` to a verifier that may still be starting."""
    async with asyncio.timeout(20):
        while True:
            try:
                challenge = await challenged(verifier, keys)
            except Unavailable:
                await asyncio.sleep(0.2)
                continue
            nonce, key = challenge.nonce, keys.tls_key
            good = good_evidence(platform=platform, cluster=CLUSTER, audience=VERIFIER_ID, nonce=nonce, tls_key=key)
            await appraised(verifier, challenge, good)


@pytest.mark.attack("C11")
def test_simulated_workers_get_nothing_from_an_owner_who_did_not_say_so(strict_mesh: RunningMesh) -> None:
    strict_mesh.allow()
    until(lambda: any("simulated" in reason for _, reason in refusals(strict_mesh)), "refused as simulated")
    assert not strict_mesh.serving()


def test_a_model_file_changed_cut_or_swapped_never_serves(strict_mesh: RunningMesh) -> None:
    stored = strict_mesh.folder / "models" / MODEL / "1" / "model.sealed"
    whole = stored.read_bytes()
    stored.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    strict_mesh.allow("--allow-simulated")
    refused = strict_mesh.log("worker-1").count("model.")
    until(lambda: strict_mesh.log("worker-1").count("model.") > refused, "the worker got the key and refused the file")
    assert not strict_mesh.serving()
    stored.write_bytes(whole[:-40])
    seen = len(strict_mesh.log("worker-1"))
    until(lambda: len(strict_mesh.log("worker-1")) > seen, "the worker tried again")
    assert not strict_mesh.serving()
    stored.write_bytes(whole)
    strict_mesh.until_serving(1)
