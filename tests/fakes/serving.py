"""A gateway and workers in one process, without a wire: what a client talks to, and ways to spoil it.

Evidence is real (the simulator's), Attestation Results are signed, requests are opened and answers sealed by the true
halves of `seal`. The model doubles its input.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister import ear
from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.evidence_pb2 import Evidence, EvidenceBundle
from cloister.api.v1.gateway_pb2 import ListWorkersRequest, ListWorkersResponse, ServingWorker
from cloister.api.v1.model_pb2 import SignedJobEpoch, SignedManifest
from cloister.api.v1.seal_pb2 import ConversationTerms, OpenedResponse, ReceiptBody
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.policy import Policy
from cloister.client import Floors, TrustBundle, anchor_of
from cloister.ear import AttestationResult, SigningKey
from cloister.errors import CloisterError, Overloaded
from cloister.oip.tensors import decode_request, encode_response, parse_request
from cloister.rpc.status import failure_of
from cloister.seal import envelope, manifest, receipt
from cloister.seal.conversation import ConversationKeys, Subject
from cloister.seal.conversation_worker import OpenedChunk, WorkerConversation, WorkerConversations
from cloister.seal.hpke import KeyPair
from cloister.seal.manifest import ModelManifest
from cloister.seal.session import OpenedRequest, WorkerSessions
from cloister.seal.session_keys import SEAL_VERSION
from cloister_simulator.measurement import Measurement
from cloister_simulator.trust_domain import TrustDomain
from fakes.pki import MeshPki
from fakes.sim import CLUSTER, ENCLAVE, SampleEvidence, good_evidence, simulated_platform

VERIFIER = f"spiffe://{CLUSTER}/verifier/main"
MODEL = "double"
DIGEST = bytes(range(32))
OWNER = Ed25519PrivateKey.generate()
OWNER_KEY = OWNER.public_key().public_bytes_raw()
ROOTS = MeshPki(CLUSTER).roots_pem.decode()


def signed_manifest(
    *, name: str = MODEL, version: int = 1, digest: bytes = DIGEST, owner: Ed25519PrivateKey = OWNER
) -> SignedManifest:
    """A model's manifest, signed by its owner."""
    files = (("model.xml", 1),)
    made = ModelManifest(
        name=name,
        version=version,
        digest=digest,
        size_bytes=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        files=files,
    )
    signed = manifest.sign(made, owner)
    return SignedManifest(manifest=signed.manifest, signature=signed.signature, public_key=signed.public_key)


@dataclass
class FakeVerifier:
    """Signs Attestation Results for evidence that it appraises as the real one does."""

    key: SigningKey = field(default_factory=SigningKey.generate)

    def trust(self, **changes: Any) -> TrustBundle:
        """The bundle of a client that believes this verifier, the simulator's root, and the enclave of the tests."""
        bundle = TrustBundle(
            cluster=CLUSTER,
            root_ca_pem=ROOTS,
            verifier_id=VERIFIER,
            verifier_jwks=json.dumps({"keys": [self.key.jwk()]}),
            thumbprints=frozenset({self.key.kid}),
            anchor=anchor_of(simulated_platform().root_der()),
            mrenclave=frozenset({ENCLAVE.mrenclave.hex()}),
            floors=Floors(hpke_suites=frozenset({"x25519"})),
        )
        return replace(bundle, **changes)

    def token(self, result: AttestationResult) -> str:
        """`result`, signed."""
        return ear.issue(result, self.key)


@dataclass
class FakeWorker:
    """One worker: its evidence, its sessions, its receipts.

    Attributes:
        enclave: Its code, as quote and Result have it.
        evidence_changes: Go to `fakes.sim.good_evidence`.
        spoil: Changes the Attestation Result before it is signed.
        error: Answered in place of outputs, inside the seal.
        refuse: Raised in place of any answer, as an outer failure; used up by one request.
        full: Whether it has no room for conversations.
        most_requests: In one conversation.
        seen: Requests it has opened.
        job_epoch: What it says that jobs may be sealed to; see `fakes.job_worker`.
    """

    verifier: FakeVerifier
    version: str = "1"
    digest: bytes = DIGEST
    enclave: Measurement = ENCLAVE
    evidence_changes: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[AttestationResult], AttestationResult] = lambda result: result
    error: CloisterError | None = None
    refuse: CloisterError | None = None
    full: bool = False
    most_requests: int = 64
    seen: list[bytes] = field(default_factory=list)
    job_epoch: SignedJobEpoch | None = None

    def __post_init__(self) -> None:
        self.evidence = self._evidence()
        self.instance = self.evidence.claims.instance
        self.renew()
        self.forget_sessions()

    def rotate(self) -> KeyPair:
        """Begin a new epoch, and return the key pair of the one before, which opens still."""
        old = self.evidence
        made = self._evidence(
            instance=self.instance, tls_key=old.tls_key, receipt_key=old.claims.receipt_key, nonce=bytes(32)
        )
        self.evidence = replace(made, receipt_key=old.receipt_key)
        self.sessions.epochs.expect(self.evidence.hpke)
        self.renew()
        self.sessions.epochs.attest(self.evidence.hpke.key_id, self.result.ear_id)
        return old.hpke

    def _evidence(self, **more: Any) -> SampleEvidence:
        changes = {
            "hpke_suite": "x25519",
            "seal_version": SEAL_VERSION,
            "enclave": self.enclave,
            **self.evidence_changes,
            **more,
        }
        return good_evidence(audience=VERIFIER, **changes)

    def renew(self) -> None:
        """A fresh Attestation Result for the same keys."""
        self.result = self.spoil(self._result())
        self.token = self.verifier.token(self.result)

    def forget_sessions(self) -> None:
        """As if every session had been evicted."""
        self.sessions = WorkerSessions(self.evidence.hpke, CLUSTER, self.instance)
        self.conversations = WorkerConversations()

    def serving(self) -> ServingWorker:
        """As the gateway lists it."""
        sample = self.evidence
        bundle = EvidenceBundle(
            evidence=Evidence(claims=sample.claims_bytes, quote=sample.quote),
            collateral=sample.collateral,
            attestation_result=self.token,
        )
        return ServingWorker(
            instance=self.instance,
            bundle=bundle,
            model_version=self.version,
            model_digest=self.digest,
            manifest=signed_manifest(version=int(self.version), digest=self.digest),
            job_epoch=self.job_epoch,
        )

    def answer(self, request: ModelInferRequest) -> ModelInferResponse:
        """Open, double, receipt, seal."""
        if self.refuse is not None:
            refusal, self.refuse = self.refuse, None
            raise refusal
        chunk = self.conversations.open_parsed(request, 0.0)
        if chunk is not None:
            return ModelInferResponse.FromString(self._chunk_answer(chunk))
        opened = self.sessions.open(
            envelope.sealed_request(request), now=datetime.now(UTC), digest_of=lambda _name, _version: self.digest
        )
        if opened.conversation is not None:
            message = self._begun(opened, opened.conversation)
        else:
            self.seen.append(opened.request)
            message = self.doubled(opened.request, opened.request_id)
            if self.error is not None:
                message = OpenedResponse(failure=failure_of(self.error))
        return envelope.build_response(
            opened.respond(message), model_name=MODEL, model_version=self.version, request_id=request.id
        )

    def _begun(self, opened: OpenedRequest, keys: ConversationKeys) -> OpenedResponse:
        if self.full:
            raise Overloaded("full", reason="conversations.full")
        terms = ConversationTerms(policy_digest=bytes(32), ear_id=self.result.ear_id, most_requests=self.most_requests)
        subject = Subject(opened.request_id, self.instance, MODEL, self.version, self.digest)
        begun = WorkerConversation(keys, subject, terms, session_id=opened.session_id, ends_at_s=1.0)
        self.conversations.add(begun, 0.0)
        return OpenedResponse(terms=terms)

    def _chunk_answer(self, chunk: OpenedChunk) -> bytes:
        if chunk.is_last:
            return chunk.conversation.seal(chunk, self.conversations.end(chunk, self.evidence.receipt_key))
        self.seen.append(chunk.request)
        if self.error is not None:
            return chunk.conversation.seal(chunk, OpenedResponse(failure=failure_of(self.error)))
        return chunk.conversation.answer(chunk, self._doubled_tensor(chunk.request), _now_ms())

    def _doubled_tensor(self, request: bytes) -> bytes:
        outputs = {"y": decode_request(parse_request(request))["x"] * 2}
        return encode_response(MODEL, outputs, version=self.version).SerializeToString()

    def doubled(self, request: bytes, request_id: bytes) -> OpenedResponse:
        """The answer to a request, and its receipt."""
        response = self._doubled_tensor(request)
        body = ReceiptBody(
            version=receipt.VERSION,
            request_id=request_id,
            request_sha256=receipt.content_hash(request_id, request),
            response_sha256=receipt.content_hash(request_id, response),
            model_name=MODEL,
            model_version=self.version,
            model_digest=self.digest,
            policy_digest=bytes(32),
            ear_id=self.result.ear_id,
            instance=self.instance,
            issued_at_ms=_now_ms(),
        )
        (proof,) = receipt.issue([body], self.evidence.receipt_key)
        return OpenedResponse(response=response, receipt=proof)

    def _result(self) -> AttestationResult:
        now = datetime.now(UTC).replace(microsecond=0)
        sample, claims = self.evidence, self.evidence.claims
        return AttestationResult(
            issuer=VERIFIER,
            audience="mesh",
            ear_id=secrets.token_hex(16),
            issued_at=now,
            expires_at=now + timedelta(minutes=30),
            nonce=claims.nonce,
            role=claims.role,
            spiffe_id=claims.spiffe_id,
            cluster=claims.cluster,
            instance=claims.instance,
            tls_spki_sha256=claims.tls_spki_sha256,
            receipt_key=claims.receipt_key,
            hpke_suite=claims.hpke_suite,
            hpke_public=claims.hpke_public,
            **self._code(),
            debug=False,
            tcb_status=sample.platform.tcb_status,
            advisory_ids=tuple(sample.platform.advisory_ids),
            tcb_evaluation=0,
            ppid_sha256="c3" * 32,
            collateral_sha256=Collateral.parse(sample.collateral).sha256,
            config_digest=claims.config_digest,
            anchor="simulated",
            simulated=True,
            hardware=96,
            executables=33,
            configuration=0,
            policy_id="default",
            policy_digest=Policy.default().digest,
        )

    def _code(self) -> dict[str, Any]:
        domain: TrustDomain | None = self.evidence_changes.get("domain")
        if domain is not None:
            nothing = {"mrenclave": "", "mrsigner": "", "isvprodid": 0, "isvsvn": 0}
            return {"tee": "tdx", "td": domain.measurement, **nothing}
        found = asdict(self.enclave)
        del found["attributes"]
        return {**found, "mrenclave": self.enclave.mrenclave.hex(), "mrsigner": self.enclave.mrsigner.hex()}


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


class FakeGateway:
    """What a client's `Peer` is to it: hands out stubs, and carries requests to the first worker that may have them.

    Attributes:
        tamper: Changes an answer on its way back.
        lists: How often workers were asked for.
        carried: Envelopes that came by.
        metadata: What came beside the last request.
        trailers: What goes after each answer, for who asks.
    """

    def __init__(self, *workers: FakeWorker) -> None:
        self.workers = list(workers)
        self.tamper: Callable[[ModelInferResponse], ModelInferResponse] = lambda response: response
        self.lists = 0
        self.carried: list[ModelInferRequest] = []
        self.metadata: tuple[tuple[str, str], ...] = ()
        self.trailers: tuple[tuple[str, str], ...] = ()

    def stub(self, _stub_class: object) -> Any:
        """Both of the gateway's services."""
        return self

    async def ListWorkers(self, request: ListWorkersRequest, timeout: float) -> ListWorkersResponse:  # noqa: ASYNC109
        assert timeout > 0
        assert request.model_name == MODEL
        self.lists += 1
        return ListWorkersResponse(workers=[worker.serving() for worker in self.workers])

    async def ModelInfer(
        self,
        request: ModelInferRequest,
        timeout: float,  # noqa: ASYNC109
        metadata: tuple[tuple[str, str], ...] = (),
        trailers: Any = None,
    ) -> ModelInferResponse:
        assert timeout > 0
        self.carried.append(request)
        self.metadata = metadata
        if trailers is not None:
            trailers(self.trailers)
        if not envelope.is_sealed(request):
            doubled = decode_request(request)["x"] * 2
            return encode_response(request.model_name, {"y": doubled}, version="1")
        wanted = request.parameters[envelope.WORKERS_PARAMETER].string_param.split(",")
        worker = next(worker for worker in self.workers if worker.instance in wanted)
        return self.tamper(worker.answer(request))
