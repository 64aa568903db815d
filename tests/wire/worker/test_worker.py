"""A whole worker over real mutual TLS: from its first challenge to its last answer."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import openvino as ov
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cloister import ear
from cloister.api.oip.inference_pb2 import ModelInferResponse, ModelMetadataResponse
from cloister.api.v1.verifier_pb2 import PURPOSE_KEY_RELEASE, PURPOSE_MESH
from cloister.api.v1.worker_pb2 import GatewayFrame, InferCall
from cloister.api.v1.worker_pb2_grpc import WorkerStub
from cloister.ear import SigningKey
from cloister.errors import EvidenceRejected, InvalidRequest, KeyRefused, NotAllowed, NotReady, Unavailable
from cloister.oip.tensors import decode_response, encode_request
from cloister.seal import envelope, receipt
from cloister.seal.job import JobKey, JobSealer
from cloister.seal.job_epoch import verify_epoch
from cloister.seal.session import ClientSessions, RecipientKey
from cloister.worker.clock import ClockJumped
from fakes import networks
from fakes.job_epochs import epoch_key
from fakes.sealing import Sealing

ROWS = np.random.default_rng(3).standard_normal((5, networks.FEATURES)).astype(np.float32)


def expected():
    config = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    return ov.Core().compile_model(networks.tiny(), "CPU", config).create_infer_request().infer({"x": ROWS})["p"]


class Gateway:
    """A gateway's stream."""

    def __init__(self, stream):
        self.stream = stream
        self.frames = []
        self.results = {}

    async def until(self, done):
        async with asyncio.timeout(15):
            while not done(self):
                frame = await self.stream.read()
                assert hasattr(frame, "results"), "the link ended"
                self.frames.append(frame)
                self.results |= {result.call_id: result for result in frame.results}
        return self

    @property
    def models(self):
        announced = [frame.models for frame in self.frames if frame.models_changed]
        ready = [state for state in announced[-1] if not state.state] if announced else []
        return {(state.name, state.version): state for state in ready}

    async def infer(self, *requests, first_id=1):
        calls = [InferCall(call_id=first_id + at, request=raw, timeout_ms=10_000) for at, raw in enumerate(requests)]
        await self.stream.write(GatewayFrame(calls=calls))
        ids = [call.call_id for call in calls]
        await self.until(lambda gateway: gateway.results.keys() >= set(ids))
        return [self.results[call_id] for call_id in ids]


@asynccontextmanager
async def linked(worker, role="gateway"):
    async with worker.peer(role) as peer:
        await peer.ready(10)
        stream = peer.stub(WorkerStub).Link(timeout=60)
        yield Gateway(stream)
        stream.cancel()


@asynccontextmanager
async def serving(mesh, **changes):
    async with mesh.worker(mesh.settings(**changes)) as worker, linked(worker) as gateway:
        await gateway.until(lambda gateway: gateway.models)
        yield worker, gateway


async def test_a_worker_attests_gets_the_key_and_answers(mesh):
    async with serving(mesh) as (worker, gateway):
        state = gateway.models["tiny", "3"]
        model = mesh.provisioner.models["tiny"][0]
        assert state.digest == model.manifest.digest
        told = state.manifest
        assert (told.manifest, told.signature, told.public_key) == model.signed
        assert gateway.frames[0].slots == 8
        (result,) = await gateway.infer(encode_request("tiny", {"x": ROWS}, outputs=("p",)).SerializeToString())
        found = ModelInferResponse.FromString(result.response)
        assert decode_response(found)["p"].tobytes() == expected().tobytes()
        assert mesh.verifier.appraised == [("enrol", PURPOSE_MESH), ("worker", PURPOSE_KEY_RELEASE)]
        first, second = mesh.verifier.claims
        assert replace(first, nonce=second.nonce, hpke_public=second.hpke_public) == second
        assert first.hpke_public != second.hpke_public  # a grant is sealed to a key of its own
        assert first.config_digest == worker.settings.digest(
            mesh.pki.roots_pem, worker.settings.verifier_keys.read_bytes()
        )
    assert mesh.verifier.left == [worker.instance]


async def test_the_owners_precision_and_preprocessing_are_honoured_and_told(mesh, tmp_path):
    config = {"INFERENCE_PRECISION_HINT": "bf16", "ENABLE_CPU_PINNING": False}
    compiled = ov.Core().compile_model(networks.wide(), "CPU", config)
    if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != "bf16":
        pytest.skip("this CPU does not compute in bf16")
    steps = "from u8; to f32; scale 255"
    files = networks.ir(networks.wide(), tmp_path)
    stated = {"precision": "bf16", "preprocessing": (("x", steps),)}
    mesh.provisioner.publish(tmp_path / "models", "wide", 1, files, **stated)
    async with serving(mesh, models=("wide",)) as (_, gateway):
        properties = ModelMetadataResponse.FromString(gateway.models["wide", "1"].metadata).properties
        assert properties["precision"] == "bf16"
        assert properties["preprocessing.x"] == steps
        config["PERFORMANCE_HINT"] = properties["performance_hint"]
        truth = ov.Core().compile_model(networks.wide(), "CPU", config).create_infer_request().infer({"x": ROWS})
        (result,) = await gateway.infer(encode_request("wide", {"x": ROWS}).SerializeToString())
        found = decode_response(ModelInferResponse.FromString(result.response))
        assert found["sum"].tobytes() == truth["sum"].tobytes()


@pytest.mark.parametrize("suite", ["x25519", "xwing"])
async def test_a_sealed_request_and_its_receipt(mesh, suite):
    async with serving(mesh, hpke_suite=suite) as (_, gateway):
        claims, model = mesh.verifier.claims[0], mesh.provisioner.models["tiny"][0].manifest
        sessions = ClientSessions(mesh.pki.cluster)
        request = encode_request("tiny", {"x": ROWS}, outputs=("p",)).SerializeToString()
        sealed, pending = sessions.seal(
            request,
            model_name="tiny",
            model_version="",
            model_digest=model.digest,
            not_after=datetime.now(UTC) + timedelta(seconds=30),
            recipients=[RecipientKey(claims.instance, claims.hpke_suite, claims.hpke_public)],
        )
        carried = envelope.build_request(sealed, model_name="tiny", instances=[claims.instance])
        (result,) = await gateway.infer(carried.SerializeToString())
        opened = pending.open(envelope.sealed_response(ModelInferResponse.FromString(result.response)))
        found = decode_response(ModelInferResponse.FromString(opened.response))
        assert found["p"].tobytes() == expected().tobytes()
        body = receipt.verify(opened.receipt, claims.receipt_key)
        receipt.verify_content(body, request=request, response=opened.response)
        assert (body.model_digest, body.policy_digest) == (model.digest, mesh.provisioner.policy_digest)
        assert mesh.verifier.results[body.ear_id].audience == "mesh"


@pytest.mark.attack("I04")
async def test_two_starts_have_nothing_in_common(mesh):
    for _ in range(2):
        async with serving(mesh):
            pass
    one, two = mesh.verifier.claims[0], mesh.verifier.claims[-1]
    assert one.instance != two.instance
    assert one.tls_spki_sha256 != two.tls_spki_sha256
    assert one.hpke_public != two.hpke_public
    assert one.receipt_key != two.receipt_key


@pytest.mark.attack("D09")
async def test_what_is_sealed_for_another_clusters_worker_does_not_open_though_the_key_is_the_right_one(mesh):
    async with serving(mesh) as (_, gateway):
        request = encode_request("tiny", {"x": ROWS}).SerializeToString()
        clusters = ("another.cloister.internal", mesh.pki.cluster)
        other, ours = await gateway.infer(*(Sealing(mesh, "tiny", cluster).seal(request)[0] for cluster in clusters))
        assert (other.failure.error, other.failure.reason) == ("SealBroken", "seal.broken")
        assert ours.WhichOneof("outcome") == "response"


@pytest.mark.parametrize("role", ["client", "worker", "operator", "owner", "enrol", "provisioner"])
async def test_only_gateways_may_link(mesh, role):
    async with mesh.worker() as worker, linked(worker, role) as other:
        with pytest.raises(NotAllowed):
            await other.stream.read()


async def test_a_worker_is_dialled_by_its_instance(mesh):
    async with serving(mesh) as (worker, _), worker.peer(instance="0" * 32) as peer:
        with pytest.raises(Unavailable):
            await peer.stub(WorkerStub).Link(timeout=2).read()


async def test_who_is_not_believed_does_not_start(mesh):
    mesh.verifier.refuse = {PURPOSE_MESH}
    with pytest.raises(EvidenceRejected):
        async with mesh.worker():
            pass
    assert mesh.verifier.count(PURPOSE_MESH) == 1


async def test_a_verifier_whose_key_is_not_pinned_has_no_worker(mesh):
    mesh.verifier.signs_with = SigningKey.generate()
    with pytest.raises(EvidenceRejected, match="key_unknown"):
        async with mesh.worker(), asyncio.timeout(15):
            await asyncio.Event().wait()


async def run_a_day_behind(mesh):
    """Run a worker whose verifier's clock is set back by a day, until it ends."""
    day = timedelta(days=1)
    async with serving(mesh):
        mesh.verifier.spoil = lambda result: replace(
            result, issued_at=result.issued_at - day, expires_at=result.expires_at - day
        )
        async with asyncio.timeout(15):
            await asyncio.Event().wait()


@pytest.mark.attack("I03")
async def test_a_verifiers_time_that_jumps_ends_the_worker(mesh):
    mesh.verifier.membership_s = 3.0
    with pytest.raises(ClockJumped, match="the host plays with time"):
        await run_a_day_behind(mesh)


async def test_a_key_set_that_is_not_there_is_said_so(mesh, tmp_path):
    with pytest.raises(NotReady, match="verifier_keys"):
        async with asyncio.timeout(10), mesh.worker(mesh.settings(verifier_keys=tmp_path / "none.json")):
            pass
    assert not mesh.verifier.appraised


async def test_a_model_of_another_owner_is_refused_and_no_more_is_said(mesh, monkeypatch, logged):
    monkeypatch.setattr("cloister.worker.backoff.Backoff.pause", lambda self, at_most_s=0.0: asyncio.sleep(0.01))
    async with mesh.worker(mesh.settings(model_owners=("ab" * 32,))) as worker, linked(worker) as gateway:
        await mesh.provisioner.until_asked(2)
        await gateway.until(lambda gateway: gateway.frames)
        assert not gateway.models
    said = [line for line in logged.getvalue().splitlines() if "key.refused" in line]
    assert said
    assert not any("owner" in line for line in said)


async def test_without_a_quote_there_is_no_worker(mesh):
    async def no_quote(report_data):
        raise NotReady("this process is not inside an SGX enclave: Gramine's attestation files are absent")

    mesh.quoter.quote = no_quote
    with pytest.raises(NotReady, match="enclave"):
        async with asyncio.timeout(10), mesh.worker():
            pass
    assert not mesh.verifier.appraised


async def health_of(worker, service=""):
    async with worker.peer() as peer:
        stub = peer.stub(health_pb2_grpc.HealthStub)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


async def test_a_refused_key_is_asked_for_again(mesh, monkeypatch, logged):
    monkeypatch.setattr("cloister.worker.backoff.Backoff.pause", lambda self, at_most_s=0.0: asyncio.sleep(0.01))
    mesh.provisioner.error = KeyRefused("the request was refused")
    async with mesh.worker() as worker, linked(worker) as gateway:
        await gateway.until(lambda gateway: gateway.frames)
        assert not gateway.models
        await mesh.provisioner.until_asked(3)
        assert await health_of(worker) == health_pb2.HealthCheckResponse.NOT_SERVING
        mesh.provisioner.error = None
        await gateway.until(lambda gateway: gateway.models)
        assert await health_of(worker) == health_pb2.HealthCheckResponse.SERVING
    said = [line for line in logged.getvalue().splitlines() if "key.refused" in line]
    assert said
    assert all('"model":"tiny"' in line.replace(" ", "") for line in said)


def flip_grant(answer):
    answer.sealed_grant = answer.sealed_grant[:-1] + bytes([answer.sealed_grant[-1] ^ 1])


def swap_lease(answer):
    answer.lease_id = "0" * 16


def flip_signature(answer):
    answer.manifest.signature = bytes(64)


def other_precision(answer):
    answer.manifest.manifest = answer.manifest.manifest[:-1] + b',"precision":"bf16"}'


@pytest.mark.parametrize("tamper", [flip_grant, swap_lease, flip_signature, other_precision])
async def test_a_grant_that_is_not_for_us_opens_nothing(mesh, monkeypatch, logged, tamper):
    monkeypatch.setattr("cloister.worker.backoff.Backoff.pause", lambda self, at_most_s=0.0: asyncio.sleep(0.01))
    mesh.provisioner.tamper = tamper
    async with mesh.worker() as worker, linked(worker) as gateway:
        await mesh.provisioner.until_asked(2)
        await gateway.until(lambda gateway: gateway.frames)
        assert not gateway.models
    assert "seal.broken" in logged.getvalue()


@pytest.mark.attack("I04")
async def test_an_older_version_is_not_taken_for_the_wanted_one(mesh, monkeypatch, tiny_files):
    monkeypatch.setattr("cloister.worker.backoff.Backoff.pause", lambda self, at_most_s=0.0: asyncio.sleep(0.01))
    older = mesh.provisioner.publish(mesh.folder / "models", "tiny", 2, tiny_files)
    mesh.provisioner.models["tiny"][0] = older  # asked for 3, the provisioner finds 2

    def as_three(answer):
        assert answer.manifest.manifest == older.signed.manifest

    mesh.provisioner.tamper = as_three
    async with mesh.worker(mesh.settings(models=("tiny@3",))) as worker, linked(worker) as gateway:
        await mesh.provisioner.until_asked(2)
        await gateway.until(lambda gateway: gateway.frames)
        assert not gateway.models


async def test_a_changed_model_file_never_serves(mesh, monkeypatch):
    monkeypatch.setattr("cloister.worker.backoff.Backoff.pause", lambda self, at_most_s=0.0: asyncio.sleep(0.01))
    path = mesh.folder / "models" / "tiny" / "3" / "model.sealed"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    async with mesh.worker() as worker, linked(worker) as gateway:
        await mesh.provisioner.until_asked(2)
        await gateway.until(lambda gateway: gateway.frames)
        assert not gateway.models
        path.write_bytes(good)
        await gateway.until(lambda gateway: gateway.models)


@pytest.mark.attack("F13")
async def test_a_refused_renewal_takes_the_model_away(mesh):
    mesh.provisioner.lease_s = 6
    async with serving(mesh) as (worker, gateway):
        mesh.provisioner.error = KeyRefused("the request was refused")
        await gateway.until(lambda gateway: not gateway.models)
        (result,) = await gateway.infer(encode_request("tiny", {"x": ROWS}).SerializeToString())
        assert result.failure.error == "NotFound"
        assert await health_of(worker) == health_pb2.HealthCheckResponse.NOT_SERVING


def lasting(number):
    """A key of an epoch that does not end here."""
    ends_ms = 2 * int(datetime.now(UTC).timestamp() * 1000)
    return epoch_key(number, seal_until_ms=ends_ms, open_until_ms=ends_ms)


async def test_a_job_is_sealed_to_the_key_that_the_worker_says_and_its_answer_proves_itself(mesh):
    mesh.provisioner.epochs = (lasting(5),)
    async with serving(mesh) as (_, gateway):
        said, model = job_epoch_of(gateway, mesh), mesh.provisioner.models["tiny"][0].manifest
        ends = datetime.now(UTC) + timedelta(days=2)
        key = JobKey(
            model_name="tiny",
            epoch=said.epoch,
            suite=said.hpke_suite,
            public=said.hpke_public,
            seal_until=ends,
            open_until=ends,
        )
        request = encode_request("tiny", {"x": ROWS}, outputs=("p",)).SerializeToString()
        sealed, ticket = JobSealer(mesh.pki.cluster).seal(request, epoch=key, not_after=ends)
        carried = envelope.build_job(sealed, model_name="tiny").SerializeToString()
        for call_id in (1, 2):  # it may be given out twice
            (result,) = await gateway.infer(carried, first_id=call_id)
            response = ModelInferResponse.FromString(result.response)
            answer = ticket.open(envelope.sealed_job_result(response, model_name="tiny", model_version=""))
            found = decode_response(ModelInferResponse.FromString(answer.response))
            assert found["p"].tobytes() == expected().tobytes()
            body = receipt.verify(answer.receipt, mesh.verifier.claims[0].receipt_key)
            receipt.verify_content(body, request=request, response=answer.response)
            assert (body.request_id, body.model_digest) == (ticket.job_id, model.digest)
            vouched = ear.unverified(answer.attestation_result)
            assert (vouched.ear_id, vouched.receipt_key) == (body.ear_id, mesh.verifier.claims[0].receipt_key)
        other, _ = JobSealer("other.internal").seal(request, epoch=key, not_after=ends)
        (result,) = await gateway.infer(envelope.build_job(other, model_name="tiny").SerializeToString(), first_id=3)
        assert result.failure.reason == "seal.broken"


async def test_membership_is_renewed_without_dropping_the_link(mesh):
    mesh.verifier.membership_s = 4.0
    mesh.provisioner.epochs = (lasting(5),)
    async with serving(mesh) as (worker, gateway):
        before = await served_certificate(worker)
        said = job_epoch_of(gateway, mesh)
        assert (said.model_name, said.epoch) == ("tiny", 5)
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_MESH) >= 2)
        assert [role for role, purpose in mesh.verifier.appraised if purpose == PURPOSE_MESH] == ["enrol", "worker"]
        (result,) = await gateway.infer(encode_request("tiny", {"x": ROWS}).SerializeToString())
        assert result.WhichOneof("outcome") == "response"
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_MESH) >= 3)  # the second is in use by now
        assert await served_certificate(worker) != before
        await gateway.until(lambda gateway: job_epoch_of(gateway, mesh).ear_id != said.ear_id)


def job_epoch_of(gateway, mesh):
    """What the worker says that jobs are sealed to: under a result of its membership, by the key in it."""
    signed = gateway.models["tiny", "3"].job_epoch
    said = verify_epoch(signed, mesh.verifier.claims[0].receipt_key)
    assert mesh.verifier.results[said.ear_id].audience == "mesh"
    assert said.instance == mesh.verifier.claims[0].instance
    return said


async def run_refusing(mesh, error):
    """Run a worker whose membership is not renewed, until it ends."""
    async with serving(mesh):
        mesh.verifier.error, mesh.verifier.refuse = error, {PURPOSE_MESH}
        async with asyncio.timeout(15):
            await asyncio.Event().wait()


async def test_who_is_no_longer_believed_ends(mesh):
    mesh.verifier.membership_s = 3.0
    with pytest.raises(EvidenceRejected):
        await run_refusing(mesh, EvidenceRejected("the request was refused"))


async def test_a_membership_that_cannot_be_renewed_ends_the_worker(mesh):
    mesh.verifier.membership_s = 3.0
    with pytest.raises(NotReady, match="membership"):
        await run_refusing(mesh, Unavailable("the disk is full"))


async def test_a_verifier_that_comes_late_is_waited_for(mesh):
    mesh.verifier.error = Unavailable("starting")
    mesh.verifier.refuse = {PURPOSE_MESH}

    async def recover():
        await mesh.verifier.until(lambda: mesh.verifier.count(PURPOSE_MESH) >= 2)
        mesh.verifier.refuse = set()

    async with asyncio.TaskGroup() as group:
        group.create_task(recover())
        async with serving(mesh):
            pass


async def test_draining_finishes_what_is_under_way(mesh):
    async with serving(mesh) as (worker, gateway):
        worker.lifecycle.stop()
        await gateway.until(lambda gateway: gateway.frames[-1].draining)
        (result,) = await gateway.infer(encode_request("tiny", {"x": ROWS}).SerializeToString())
        assert result.WhichOneof("outcome") == "response"
        await mesh.verifier.until(lambda: mesh.verifier.left)
        await gateway.stream.done_writing()
        async with asyncio.timeout(10):
            await worker.task


async def test_several_gateways_have_slots_of_their_own(mesh):
    async with serving(mesh) as (worker, first), linked(worker) as second:
        await second.until(lambda gateway: gateway.models)
        request = encode_request("tiny", {"x": ROWS}).SerializeToString()
        for gateway in (first, second):
            results = await gateway.infer(*[request] * 8)
            assert all(result.WhichOneof("outcome") == "response" for result in results)


async def test_a_link_that_breaks_the_contract_ends_alone(mesh):
    async with serving(mesh) as (worker, good), linked(worker) as bad:
        await bad.until(lambda gateway: gateway.models)
        request = encode_request("tiny", {"x": ROWS}).SerializeToString()
        await bad.stream.write(GatewayFrame(calls=[InferCall(call_id=1, request=request, timeout_ms=1000)] * 2))
        with pytest.raises(InvalidRequest, match="twice"):
            await bad.until(lambda gateway: False)
        (result,) = await good.infer(request)
        assert result.WhichOneof("outcome") == "response"


async def served_certificate(worker) -> bytes:
    """The leaf that a new connection is shown."""
    files = worker.mesh.pki.identity("gateway", "probe").write(worker.mesh.folder / "probe")
    context = ssl.create_default_context(cafile=str(files.trust_roots))
    context.check_hostname = False
    context.load_cert_chain(files.certificate, files.private_key)
    context.set_alpn_protocols(["h2"])
    host, _, port = worker.settings.listen.partition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()  # gRPC goes on talking after an orderly goodbye
