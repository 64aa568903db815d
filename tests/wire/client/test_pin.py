"""`cloister trust pin` against a listener that answers: a real one, one in the middle, and one that lies."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import sys
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from cloister.appraisal.anchors import INTEL_SGX
from cloister.client import TrustBundle, pin_by_evidence, pin_by_fingerprint, root_fingerprints
from cloister.client.pinned import PinnedBy
from cloister.ear import SigningKey
from cloister.errors import EvidenceRejected, InvalidRequest, NotReady, Unavailable
from cloister.evidence.gramine import GramineQuoter
from cloister.evidence.mesh_trust import MeshTrust
from cloister.kit.https import https_server
from cloister.kit.lifecycle import Lifecycle
from cloister.rpc.identity import TlsFiles, TlsIdentity
from cloister_simulator.platform import Platform
from fakes.pki import MeshPki
from fakes.public_verifier import MRENCLAVE, VERIFIER_ID, PublicVerifier, jwks, public_verifier
from fakes.running_services import verifier_settings
from fakes.sim import simulated_platform


@pytest.fixture(scope="module")
def pki() -> MeshPki:
    return MeshPki()


@pytest.fixture
def platform() -> Platform:
    return simulated_platform()


@pytest.fixture
async def public(tmp_path: Path, pki: MeshPki, platform: Platform) -> AsyncIterator[PublicVerifier]:
    settings = verifier_settings(tmp_path, pki, platform, SigningKey.generate())
    async with public_verifier(settings, pki, platform) as made:
        yield made


async def by_evidence(public: PublicVerifier, address: str = "", mrenclave: str = MRENCLAVE) -> TrustBundle:
    return (await pin_by_evidence(address or public.address, mrenclave={mrenclave}, anchor=public.anchor)).bundle


async def by_fingerprint(public: PublicVerifier, address: str = "") -> TrustBundle:
    return await pin_by_fingerprint(address or public.address, {public.fingerprint}, anchor=public.anchor)


@asynccontextmanager
async def site(files: TlsFiles, app: ASGIApp) -> AsyncIterator[str]:
    """The address of a listener with this certificate."""
    async with (
        Lifecycle.running() as lifecycle,
        TlsIdentity.watching(files) as identity,
        https_server("127.0.0.1:0", identity, files, app, lifecycle=lifecycle) as server,
    ):
        yield f"127.0.0.1:{server.port}"


class Middle:
    """Whoever sits between: another key, and what the verifier says, with whatever changes it likes."""

    def __init__(self, victim: PublicVerifier) -> None:
        self._victim = victim
        self.app = Router([Route("/v1/trust", self.trust), Route("/v1/evidence", self.evidence)])
        self.changed: Any = lambda trust: trust

    async def trust(self, _request: Request) -> Response:
        trust = MeshTrust.from_json(await self._fetched("/v1/trust"))
        return Response(self.changed(trust).to_json())

    async def evidence(self, request: Request) -> Response:
        return Response(await self._fetched(f"/v1/evidence?{request.url.query}"))

    async def _fetched(self, path: str) -> bytes:
        roots = ssl.create_default_context(cadata=self._victim.running.pki.roots_pem.decode())
        async with httpx.AsyncClient(verify=roots, trust_env=False) as client:
            return (await client.get(f"https://{self._victim.address}{path}")).content


@asynccontextmanager
async def in_the_middle(middle: Middle, pki: MeshPki, folder: Path, *, key: Path | None = None) -> AsyncIterator[str]:
    """Its address. It has a certificate of `pki`, and even the verifier's own key if `key` says where that lies."""
    files = pki.identity("verifier", "one", ips=("127.0.0.1",)).write(folder)
    if key is not None:
        files = replace(files, certificate=key / "certificate.pem", private_key=key / "key.pem")
    async with site(files, middle.app) as address:
        yield address


async def test_from_an_address_and_a_measurement_to_a_bundle(public: PublicVerifier, pki: MeshPki) -> None:
    bundle = await by_evidence(public)
    assert (bundle.verifier_id, bundle.root_ca_pem) == (VERIFIER_ID, pki.roots_pem.decode())
    assert bundle.pinned is not None
    assert (bundle.pinned.by, bundle.pinned.verifier_mrenclave) == (PinnedBy.ATTESTED, MRENCLAVE)
    assert TrustBundle.from_json(bundle.to_json()) == bundle


async def test_another_build_than_the_one_that_was_named_is_refused(public: PublicVerifier) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        await by_evidence(public, mrenclave="ab" * 32)
    assert refused.value.reason == "measurement.unknown"


@pytest.mark.attack("C11")
async def test_simulated_evidence_is_refused_unless_its_root_was_named(public: PublicVerifier) -> None:
    with pytest.raises(EvidenceRejected) as refused:
        await pin_by_evidence(public.address, mrenclave={MRENCLAVE})
    assert refused.value.reason == "anchor.other"
    with pytest.raises(EvidenceRejected) as refused:
        await pin_by_fingerprint(public.address, {public.fingerprint})
    assert refused.value.reason == "anchor.other"


@pytest.mark.attack("C11")
async def test_it_is_refused_as_well_where_the_verifier_says_that_its_root_is_intels(
    public: PublicVerifier, pki: MeshPki, tmp_path: Path
) -> None:
    middle = Middle(public)
    middle.changed = lambda trust: replace(trust, anchor_root_der=INTEL_SGX.root_der)
    stolen = public.running.settings.tls.certificate.parent
    async with in_the_middle(middle, pki, tmp_path / "middle", key=stolen) as address:
        with pytest.raises(EvidenceRejected) as refused:
            await pin_by_evidence(address, mrenclave={MRENCLAVE})
    assert refused.value.step == 2


@pytest.mark.attack("D07")
async def test_whoever_relays_the_evidence_over_a_key_of_its_own_is_refused(
    public: PublicVerifier, tmp_path: Path
) -> None:
    async with in_the_middle(Middle(public), MeshPki(), tmp_path / "middle") as address:
        with pytest.raises(EvidenceRejected) as refused:
            await by_evidence(public, address)
    assert (refused.value.step, refused.value.reason) == (5, "claims.tls_spki_sha256_mismatched")


@pytest.mark.attack("D08")
async def test_a_genuine_verifier_of_another_mesh_is_not_the_one_whose_root_was_named(
    public: PublicVerifier, platform: Platform, tmp_path: Path
) -> None:
    """The right build, on a machine of the attacker's, with a CA and keys of the attacker's."""
    named = {"mrenclave": {MRENCLAVE}, "fingerprints": {public.fingerprint}, "anchor": public.anchor}
    assert (await pin_by_evidence(public.address, **named)).bundle.pinned is not None
    other = MeshPki()
    settings = verifier_settings(tmp_path / "other", other, platform, SigningKey.generate())
    async with public_verifier(settings, other, platform) as attackers:
        assert (await by_evidence(attackers)).pinned is not None
        with pytest.raises(EvidenceRejected) as refused:
            await pin_by_evidence(attackers.address, **named)
    assert refused.value.reason == "fingerprint.other"


@pytest.mark.attack("E09")
async def test_keys_replaced_on_the_way_are_refused_even_by_who_has_the_tls_key(
    public: PublicVerifier, pki: MeshPki, tmp_path: Path
) -> None:
    middle, key = Middle(public), SigningKey.generate()
    stolen = public.running.settings.tls.certificate.parent
    async with in_the_middle(middle, pki, tmp_path / "middle", key=stolen) as address:
        assert (await by_evidence(public, address)).pinned is not None
        middle.changed = lambda trust: replace(trust, jwks=jwks(key), thumbprints=frozenset({key.kid}))
        with pytest.raises(EvidenceRejected) as refused:
            await by_evidence(public, address)
        assert refused.value.reason == "claims.config_digest_mismatched"
        middle.changed = lambda trust: replace(trust, jwks=jwks(key))
        with pytest.raises(EvidenceRejected) as refused:
            await by_evidence(public, address)
        assert refused.value.reason == "keys.other"


async def test_a_change_between_the_two_requests_is_asked_for_once_more(
    public: PublicVerifier, pki: MeshPki, tmp_path: Path
) -> None:
    """As when the verifier's keys rotate just then."""
    middle, asked = Middle(public), []

    def stale_once(trust: MeshTrust) -> MeshTrust:
        asked.append(trust)
        return replace(trust, policy_digest=bytes(32)) if len(asked) == 1 else trust

    middle.changed = stale_once
    stolen = public.running.settings.tls.certificate.parent
    async with in_the_middle(middle, pki, tmp_path / "middle", key=stolen) as address:
        assert (await by_evidence(public, address)).pinned is not None
    assert len(asked) == 2


async def test_a_root_that_somebody_named_is_enough_for_a_weak_pin(public: PublicVerifier) -> None:
    bundle = await by_fingerprint(public)
    assert bundle.pinned is not None
    assert (bundle.pinned.by, bundle.pinned.is_weak) == (PinnedBy.FINGERPRINT, True)
    with pytest.raises(EvidenceRejected) as refused:
        await pin_by_fingerprint(public.address, {"ab" * 32}, anchor=public.anchor)
    assert refused.value.reason == "fingerprint.other"


@pytest.mark.attack("E09")
async def test_by_fingerprint_keys_come_from_a_certificate_of_that_root_or_not_at_all(
    public: PublicVerifier, tmp_path: Path
) -> None:
    """The attacker shows the right root, which is public, and has no certificate of it."""
    middle, key = Middle(public), SigningKey.generate()
    middle.changed = lambda trust: replace(trust, jwks=jwks(key), thumbprints=frozenset({key.kid}))
    async with in_the_middle(middle, MeshPki(), tmp_path / "middle") as address:
        with pytest.raises(EvidenceRejected) as refused:
            await by_fingerprint(public, address)
    assert refused.value.reason == "certificate.untrusted"


@pytest.mark.attack("D06")
async def test_a_worker_of_the_mesh_is_no_verifier(public: PublicVerifier, pki: MeshPki, tmp_path: Path) -> None:
    """It has a certificate under the same root, with another name in it."""
    worker = pki.identity("worker", "ab" * 16, ips=()).write(tmp_path / "worker")
    async with site(worker, Middle(public).app) as address:
        with pytest.raises(EvidenceRejected) as refused:
            await by_fingerprint(public, address)
    assert refused.value.reason == "certificate.untrusted"


async def test_a_verifier_outside_an_enclave_says_that_it_has_no_evidence(
    tmp_path: Path, pki: MeshPki, platform: Platform
) -> None:
    settings = verifier_settings(tmp_path, pki, platform, SigningKey.generate())
    async with public_verifier(settings, pki, platform, GramineQuoter(tmp_path / "none")) as public:
        with pytest.raises(NotReady) as refused:
            await by_evidence(public)
        assert refused.value.reason == "enclave.absent"
        assert (await by_fingerprint(public)).pinned is not None


@pytest.mark.parametrize("address", ["nowhere", "https://host:1", "a:b", "host:1/x", "user@host:1"])
async def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await pin_by_evidence(address, mrenclave={MRENCLAVE})
    assert refused.value.reason == "address.invalid"


async def test_nobody_there_is_unavailable(public: PublicVerifier) -> None:
    with pytest.raises(Unavailable):
        await pin_by_evidence("127.0.0.1:1", mrenclave={MRENCLAVE})


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"<html>", 200), (b"x" * (3 << 20), 200), (b"{}", 500), (b'{"error": {"reason": "a b", "message": 1}}', 503)],
    ids=["a page", "too much", "broken", "odd"],
)
async def test_what_is_no_verifier_is_refused_without_harm(
    pki: MeshPki, tmp_path: Path, content: bytes, status: int
) -> None:
    async def anything(_request: Request) -> Response:
        return Response(content, status)

    files = pki.identity("verifier", "one").write(tmp_path)
    app = Router([Route("/{path:path}", anything)])
    async with site(files, app) as address:
        with pytest.raises((InvalidRequest, Unavailable)):
            await pin_by_evidence(address, mrenclave={MRENCLAVE})


async def cli(*words: str | Path, code: int) -> tuple[str, str]:
    """Run `cloister trust` as a person would."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cloister.cli",
        "trust",
        *map(str, words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode == code, (out, err)
    return out.decode(), err.decode()


async def test_the_command_pins_renews_and_says_what_a_pin_is_worth(public: PublicVerifier, tmp_path: Path) -> None:
    root = public.running.settings.anchor_root
    simulated, strong, weak = ("--anchor-root", root), tmp_path / "strong.json", tmp_path / "weak.json"
    named = ("--worker", "ab" * 32, "--pin-policy", "--json")
    out, err = await cli("pin", public.address, "--mrenclave", MRENCLAVE, *simulated, *named, "-o", strong, code=0)
    told = json.loads(out)
    assert (told["pinned"]["by"], told["mrenclave"]) == ("attested", ["ab" * 32])
    assert told["verifier_policies"] == [told["pinned"]["policy"]["digest"]]
    assert "proves nothing about hardware" in err

    fingerprint = ("--fingerprint", f"sha256:{public.fingerprint}")
    _, err = await cli("pin", public.address, *fingerprint, *simulated, "-o", weak, code=0)
    assert "no evidence says what code its verifier runs" in err
    before = strong.read_bytes()
    _, err = await cli("pin", public.address, *fingerprint, *simulated, "-o", strong, code=3)
    assert "was left as it is" in err
    assert "pin.weakened" in err
    assert strong.read_bytes() == before


@pytest.mark.parametrize("cluster", ["x" * 64 + ".internal", "demo..internal", "\ud800.internal"])
async def test_a_cluster_that_is_no_name_is_refused(
    public: PublicVerifier, pki: MeshPki, tmp_path: Path, cluster: str
) -> None:
    middle = Middle(public)
    middle.changed = lambda trust: replace(trust, cluster=cluster)
    async with in_the_middle(middle, pki, tmp_path / "middle") as address:
        with pytest.raises(InvalidRequest):
            await by_fingerprint(public, address)


@pytest.mark.attack("D14")
async def test_an_answer_that_would_grow_a_thousandfold_twice_is_not_unpacked(pki: MeshPki, tmp_path: Path) -> None:
    bomb = gzip.compress(gzip.compress(bytes(64 << 20)))

    async def packed(_request: Request) -> Response:
        return Response(bomb, headers={"content-encoding": "gzip, gzip"})

    files = pki.identity("verifier", "one", ips=("127.0.0.1",)).write(tmp_path)
    async with site(files, Router([Route("/v1/trust", packed)])) as address:
        tracemalloc.start()
        try:
            with pytest.raises(InvalidRequest) as refused:
                await root_fingerprints(address, timeout_s=10.0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert refused.value.reason == "answer.malformed"
    assert peak < 16 << 20


async def test_who_drips_is_not_waited_for(pki: MeshPki, tmp_path: Path) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async def drip(_request: Request) -> Response:
        return StreamingResponse(dripping())

    files = pki.identity("verifier", "one", ips=("127.0.0.1",)).write(tmp_path)
    async with site(files, Router([Route("/v1/trust", drip)])) as address, asyncio.timeout(10):
        with pytest.raises(Unavailable):
            await root_fingerprints(address, timeout_s=1.0)
