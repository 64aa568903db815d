"""What the verifier tells anybody over HTTPS, read with the tools that others use."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dcap_qvl
import httpx
import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet as JoserfcKeySet

from cloister.api.v1 import verifier_pb2 as pb
from cloister.api.v1.evidence_pb2 import EvidenceBundle
from cloister.api.v1.verifier_pb2_grpc import VerifierStub
from cloister.ear import SigningKey
from cloister.errors import InvalidRequest, NotReady
from cloister.evidence.binding import decode, report_data
from cloister.evidence.gramine import GramineQuoter
from cloister.evidence.mesh_trust import MeshTrust
from cloister.rpc.certificates import spki_sha256
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.public_verifier import VERIFIER_ID, PublicVerifier, public_verifier
from fakes.running_services import CALL_S, WireWorker, verifier_settings
from fakes.sim import VERIFIER_ENCLAVE

NONCE = secrets.token_bytes(32)


@pytest.fixture
async def public(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> AsyncIterator[PublicVerifier]:
    async with public_verifier(verifier_settings(tmp_path, pki, platform, signing_key), pki, platform) as made:
        yield made


def trusting(pki: MeshPki) -> ssl.SSLContext:
    """As a client that has the mesh's CA file."""
    return ssl.create_default_context(cadata=pki.roots_pem.decode())


async def got(public: PublicVerifier, path: str) -> httpx.Response:
    async with httpx.AsyncClient(verify=trusting(public.running.pki), trust_env=False) as client:
        return await client.get(f"https://{public.address}{path}")


async def an_ear(public: PublicVerifier) -> str:
    async with public.running.as_role("enrol") as enrol:
        worker = WireWorker(public.running.pki, public.platform)
        return (await worker.appraised(enrol)).attestation_result


def by_pyjwt(token: str, address: str, context: ssl.SSLContext) -> dict[str, Any]:
    """PyJWT, fetching the keys by itself, as its documentation does it."""
    client = jwt.PyJWKClient(f"https://{address}/.well-known/jwks.json", ssl_context=context)
    key = client.get_signing_key_from_jwt(token)
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"], audience="mesh", issuer=VERIFIER_ID)
    return claims


def by_joserfc(token: str, keys: str) -> dict[str, Any]:
    """joserfc, given the key set."""
    read = joserfc_jwt.decode(token, JoserfcKeySet.import_key_set(json.loads(keys)), algorithms=["ES256"])
    joserfc_jwt.JWTClaimsRegistry(iss={"essential": True, "value": VERIFIER_ID}, aud={"value": "mesh"}).validate(
        read.claims
    )
    return dict(read.claims)


async def test_stock_libraries_verify_a_result_by_the_published_keys(public: PublicVerifier) -> None:
    token = await an_ear(public)
    answer = await got(public, "/.well-known/jwks.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/jwk-set+json")
    assert "max-age" in answer.headers["cache-control"]
    context = trusting(public.running.pki)
    first = await asyncio.to_thread(by_pyjwt, token, public.address, context)
    assert first == by_joserfc(token, answer.text)
    assert first["cloister"]["cluster"] == public.running.pki.cluster


def made_genuine(head: str, body: str, signature: str) -> str:
    """The same token, saying that nothing about it is simulated."""
    said = urlsafe_b64decode(body + "=" * (-len(body) % 4)).replace(b'"simulated":true', b'"simulated":false')
    changed = urlsafe_b64encode(said).decode().rstrip("=")
    assert changed != body
    return f"{head}.{changed}.{signature}"


@pytest.mark.attack("C11")
@pytest.mark.parametrize("change", [made_genuine, lambda head, body, _: f"{head}.{body}."])
async def test_stock_libraries_refuse_a_result_that_was_touched(
    public: PublicVerifier, change: Callable[[str, str, str], str]
) -> None:
    token = change(*(await an_ear(public)).split("."))
    keys = (await got(public, "/.well-known/jwks.json")).text
    with pytest.raises(Exception, match=r"(?i)signature"):
        await asyncio.to_thread(by_pyjwt, token, public.address, trusting(public.running.pki))
    with pytest.raises(Exception, match=r"(?i)signature"):
        by_joserfc(token, keys)


async def test_the_trust_document_is_that_of_this_mesh(public: PublicVerifier, signing_key: SigningKey) -> None:
    trust = MeshTrust.from_json((await got(public, "/v1/trust")).content)
    assert (trust.cluster, trust.verifier_id) == (public.running.pki.cluster, VERIFIER_ID)
    assert trust.root_ca_pem == public.running.pki.roots_pem.decode()
    assert trust.thumbprints == {signing_key.kid}
    assert trust.anchor_root_der == public.platform.root_der()


def check_evidence(raw: bytes, trust: MeshTrust, tls_spki_sha256: bytes) -> None:
    """Evidence for the nonce, this key and this mesh; the quote is read by another's code."""
    bundle = EvidenceBundle.FromString(raw)
    claims = decode(bundle.evidence.claims)
    assert (claims.nonce, claims.role, claims.spiffe_id) == (NONCE, "verifier", VERIFIER_ID)
    assert claims.tls_spki_sha256 == tls_spki_sha256
    assert claims.config_digest == trust.digest()
    report = dcap_qvl.parse_quote(bundle.evidence.quote).report
    assert report.mr_enclave == VERIFIER_ENCLAVE.mrenclave
    assert report.report_data == report_data(bundle.evidence.claims)


async def test_evidence_is_bound_to_the_nonce_the_tls_key_and_the_trust_document(public: PublicVerifier) -> None:
    answer = await got(public, f"/v1/evidence?nonce={NONCE.hex()}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    peer = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(binary_form=True)
    trust = MeshTrust.from_json((await got(public, "/v1/trust")).content)
    check_evidence(answer.content, trust, spki_sha256(ssl.DER_cert_to_PEM_cert(peer).encode()))
    again = await got(public, f"/v1/evidence?nonce={NONCE.hex()}")
    assert again.content != answer.content  # a quote is made for each, not kept


async def test_members_of_the_mesh_ask_for_it_over_grpc(public: PublicVerifier) -> None:
    for role in ("client", "gateway", "enrol"):
        async with public.running.as_role(role) as peer:
            stub: Any = peer.stub(VerifierStub)
            answer = await stub.GetEvidence(pb.GetEvidenceRequest(nonce=NONCE), timeout=CALL_S)
            trust = MeshTrust.from_json(answer.mesh_trust)
            own = public.running.settings.tls.certificate.read_bytes()
            check_evidence(answer.bundle.SerializeToString(), trust, spki_sha256(own))
            with pytest.raises(InvalidRequest):
                await stub.GetEvidence(pb.GetEvidenceRequest(nonce=NONCE[1:]), timeout=CALL_S)


@pytest.mark.parametrize(
    "query", ["", "?nonce=", "?nonce=ab", f"?nonce={'AB' * 32}", f"?nonce={'ab' * 32}&nonce={'ab' * 32}"]
)
async def test_a_nonce_that_is_none_is_refused_by_name(public: PublicVerifier, query: str) -> None:
    answer = await got(public, f"/v1/evidence{query}")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "nonce.invalid")


async def test_outside_an_enclave_there_is_no_evidence_and_it_says_so(
    tmp_path: Path, pki: MeshPki, platform: Platform, signing_key: SigningKey
) -> None:
    settings = verifier_settings(tmp_path, pki, platform, signing_key)
    async with public_verifier(settings, pki, platform, GramineQuoter(tmp_path / "no-gramine-here")) as public:
        answer = await got(public, f"/v1/evidence?nonce={NONCE.hex()}")
        assert (answer.status_code, answer.json()["error"]["reason"]) == (409, "enclave.absent")
        assert (await got(public, "/v1/trust")).status_code == 200
        async with public.running.as_role("client") as peer:
            stub: Any = peer.stub(VerifierStub)
            with pytest.raises(NotReady) as refused:
                await stub.GetEvidence(pb.GetEvidenceRequest(nonce=NONCE), timeout=CALL_S)
        assert refused.value.reason == "enclave.absent"


async def test_health_says_when_it_is_about_to_stop(public: PublicVerifier) -> None:
    answer = await got(public, "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "SERVING"})
    public.running.lifecycle.stop()
    answer = await got(public, "/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "NOT_SERVING"})
