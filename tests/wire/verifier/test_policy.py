"""Policies over the wire: applied by the operator, shown, explained with the command, and what members feel of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.appraisal.policy import Policy
from cloister.cli import app
from cloister.cli.mesh_folder import Mesh
from cloister.client import TrustBundle, anchor_of
from cloister.ear import KeySet, SigningKey, check
from cloister.errors import AlreadyExists, EvidenceRejected, InvalidRequest, NotAllowed
from cloister.rpc.channel import Peer
from cloister.verifier.settings import Settings
from cloister_simulator.measurement import Measurement
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.policies import SIGNER_KEYS, policy_toml, signed
from fakes.running_services import CALL_S, Running, WireWorker, running_verifier, verifier_settings

OTHER = Measurement(mrenclave=b"\x05" * 32)
BOTH = policy_toml(1) + f'[[reference_values]]\nmrenclave = "{OTHER.mrenclave.hex()}"\n'.encode()
ROLES = ("provisioner", "gateway", "worker", "enrol", "owner", "client", "operator", "auditor")


@pytest.fixture
def settings(tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey) -> Settings:
    """Of a verifier whose policy, version 1, two of three people have signed; it wants two kinds of worker."""
    policy = tmp_path / "policy.signed.json"
    policy.write_bytes(signed(BOTH, 0, 1))
    return verifier_settings(
        tmp_path, pki, platform, signing_key, policy=policy, policy_signers=SIGNER_KEYS, policy_threshold=2
    )


@pytest.fixture
async def verifier(settings: Settings, pki: MeshPki) -> AsyncIterator[Running]:
    async with running_verifier(settings, pki) as running:
        yield running


def stub_of(peer: Peer) -> Any:
    return peer.stub(VerifierStub)


async def join(verifier: Running, worker: WireWorker) -> pb.AppraiseResponse:
    async with verifier.as_role("enrol") as enrol:
        return await worker.appraised(enrol)


async def apply(verifier: Running, raw: bytes) -> pb.ApplyPolicyResponse:
    async with verifier.as_role("operator") as operator:
        answer: pb.ApplyPolicyResponse = await stub_of(operator).ApplyPolicy(
            pb.ApplyPolicyRequest(policy=raw), timeout=CALL_S
        )
        return answer


async def in_force(verifier: Running) -> pb.GetPolicyResponse:
    async with verifier.as_role("auditor") as auditor:
        answer: pb.GetPolicyResponse = await stub_of(auditor).GetPolicy(pb.GetPolicyRequest(), timeout=CALL_S)
        return answer


async def attested(verifier: Running) -> list[str]:
    async with verifier.as_role("auditor") as auditor:
        listed = stub_of(auditor).ListEvidence(pb.ListEvidenceRequest(), timeout=CALL_S)
        return [worker.instance async for worker in listed]


async def last_record(verifier: Running) -> dict[str, Any]:
    async with verifier.as_role("auditor") as auditor:
        listed = stub_of(auditor).ListAppraisals(pb.ListAppraisalsRequest(), timeout=CALL_S)
        found: dict[str, Any] = json.loads([entry.record async for entry in listed][-1])
        return found


async def test_an_applied_policy_is_in_force_and_cuts_whom_it_does_not_believe(
    verifier: Running, worker: WireWorker, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> None:
    other = WireWorker(pki, platform, enclave=OTHER)
    async with verifier.as_role("gateway") as gateway:
        events = aiter(stub_of(gateway).WatchAttested(pb.WatchAttestedRequest(), timeout=CALL_S))
        await anext(events)
        await join(verifier, worker)
        await join(verifier, other)
        assert await attested(verifier) == [worker.instance, other.instance]
        raw = signed(policy_toml(2), 0, 2)
        answer = await apply(verifier, raw)
        for _ in range(2):
            await anext(events)
        gone = await anext(events)
    policy = Policy.from_toml(policy_toml(2))
    assert (answer.version, answer.digest, answer.stood, answer.unjudged) == (2, policy.digest, 1, 0)
    (fallen,) = answer.fallen
    assert (fallen.instance, fallen.step, fallen.reason) == (other.instance, 7, "measurement.refused")
    assert (gone.kind, gone.reason, gone.worker.instance) == (pb.AttestedEvent.KIND_GONE, "revoked", other.instance)
    assert await attested(verifier) == [worker.instance]
    shown = await in_force(verifier)
    assert (shown.policy_id, shown.version, shown.digest, shown.policy) == ("tests", 2, policy.digest, raw)
    assert list(shown.signers) == sorted([SIGNER_KEYS[0], SIGNER_KEYS[2]])
    with pytest.raises(EvidenceRejected):
        await join(verifier, other)
    result = check(
        (await join(verifier, WireWorker(pki, platform))).attestation_result,
        KeySet.from_jwks(json.dumps({"keys": [signing_key.jwk()]})),
        issuer=f"spiffe://{pki.cluster}/verifier/one",
        audience="mesh",
        now=datetime.now(UTC),
        max_life=timedelta(hours=1),
    )
    assert result.policy_digest == policy.digest


@pytest.mark.attack("C07")
@pytest.mark.attack("C08")
@pytest.mark.parametrize(
    ("raw", "kind", "reason"),
    [
        (b"", InvalidRequest, "policy.unsigned"),
        (policy_toml(9), InvalidRequest, "policy.unsigned"),
        (signed(policy_toml(9), 2), InvalidRequest, "signature.insufficient"),
        (signed(policy_toml(9, 'accepted_advisories = ""'), 0, 1), InvalidRequest, "policy.malformed"),
        (signed(policy_toml(2), 0, 1), InvalidRequest, "policy.rolled_back"),
        (signed(policy_toml(3, "minimum_evaluation = 2"), 0, 1), AlreadyExists, "policy.version_taken"),
    ],
)
async def test_a_policy_that_may_not_be_in_force_leaves_the_old_one(
    verifier: Running, worker: WireWorker, raw: bytes, kind: type[Exception], reason: str
) -> None:
    await apply(verifier, signed(policy_toml(3), 0, 1))
    await join(verifier, worker)
    before = await in_force(verifier)
    with pytest.raises(kind) as refused:
        await apply(verifier, raw)
    assert getattr(refused.value, "reason", None) == reason
    assert await in_force(verifier) == before
    record = await last_record(verifier)
    assert (record["event"], record["reason"]) == ("policy.refused", reason)
    assert await attested(verifier) == [worker.instance]
    await join(verifier, WireWorker(worker.pki, worker.platform))


@pytest.mark.attack("C08")
async def test_what_was_applied_is_in_force_after_a_restart(settings: Settings, pki: MeshPki) -> None:
    async with running_verifier(settings, pki) as verifier:
        await apply(verifier, signed(policy_toml(5), 1, 2))
    async with running_verifier(settings, pki) as again:
        assert (await in_force(again)).version == 5
        with pytest.raises(InvalidRequest):
            await apply(again, signed(policy_toml(4), 0, 1))


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_calls_what_it_may_and_nothing_else(verifier: Running, role: str) -> None:
    calls: dict[str, tuple[Any, set[str]]] = {
        "ApplyPolicy": (pb.ApplyPolicyRequest(policy=signed(policy_toml(2), 0, 1)), {"operator"}),
        "GetPolicy": (pb.GetPolicyRequest(), {"owner", "auditor", "operator"}),
        "ListEvidence": (pb.ListEvidenceRequest(), {"owner", "auditor", "operator"}),
    }
    async with verifier.as_role(role, "ab" * 16 if role == "worker" else "main") as peer:
        for method, (request, allowed) in calls.items():
            call = getattr(stub_of(peer), method)(request, timeout=CALL_S)
            try:
                await (call.read() if method == "ListEvidence" else call)
            except NotAllowed:
                assert role not in allowed, method
            else:
                assert role in allowed, method


# The command


@pytest.fixture
def mesh(tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey, verifier: Running) -> Mesh:
    """The mesh folder of somebody who is operator and auditor."""
    address = f"127.0.0.1:{verifier.server.port}"
    folder = tmp_path / "mesh"
    mesh = Mesh(
        folder=folder, cluster=pki.cluster, simulated=True, gateway=address, verifier=address, provisioner=address
    )
    for role in ("operator", "auditor"):
        files = pki.identity(role, "main").write(mesh.identity(role))
        files.private_key.rename(files.private_key.with_name("private_key.pem"))
        files.trust_roots.rename(files.trust_roots.with_name("trust_roots.pem"))
    mesh.write(folder)
    bundle = TrustBundle(
        cluster=pki.cluster,
        root_ca_pem=pki.roots_pem.decode(),
        verifier_id=f"spiffe://{pki.cluster}/verifier/one",
        verifier_jwks=json.dumps({"keys": [signing_key.jwk()]}),
        thumbprints=frozenset({signing_key.kid}),
        anchor=anchor_of(platform.root_der()),
    )
    mesh.trust.write_bytes(bundle.to_json())
    return mesh


Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def run(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command on a thread, in a loop of its own, as its entry point runs it: exit code, what it prints."""

    def main() -> int:
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0)

    async def command(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["cloister", *map(str, words), "--mesh", str(mesh.folder)])
        printed = StringIO()  # apart from the verifier's log, which goes to this process's stdout as well
        monkeypatch.setattr("cloister.cli.output.out", Console(file=printed, highlight=False, soft_wrap=True))
        return await asyncio.to_thread(main), printed.getvalue()

    return command


async def test_the_command_explains_applies_shows_and_saves(
    verifier: Running, worker: WireWorker, run: Run, tmp_path: Path
) -> None:
    other = WireWorker(worker.pki, worker.platform, enclave=OTHER)
    await join(verifier, worker)
    await join(verifier, other)
    proposal, kept = tmp_path / "proposal.json", tmp_path / "kept"
    proposal.write_bytes(signed(policy_toml(2), 0, 1))
    code, out = await run("policy", "explain", proposal, "--json")
    assert code == 3
    fallen = [(one["worker"], one["step"], one["reason"]) for one in json.loads(out) if not one["believed"]]
    assert fallen == [(other.instance, 7, "measurement.refused")]
    assert (await run("evidence", "save", kept))[0] == 0
    assert {path.stem for path in kept.glob("*.bundle")} == {worker.instance, other.instance}
    code, out = await run("policy", "apply", proposal, "--json")
    assert code == 0
    assert [one["worker"] for one in json.loads(out)["revoked"]] == [other.instance]
    code, out = await run("policy", "show", "--json", "--out", tmp_path / "shown.json")
    assert (code, json.loads(out)["version"]) == (0, 2)
    assert (tmp_path / "shown.json").read_bytes() == proposal.read_bytes()
    code, out = await run("policy", "explain", proposal)
    assert code == 0
    assert "1 judged: 1 would stay, 0 would fall out" in out
    assert (await run("policy", "apply", tmp_path / "policy.signed.json"))[0] == 1
