"""One small mesh of fixed keys that `ear-v1.json`, `exchange-v1.json` and `receipts-v1.json` share.

A verifier with three signing keys, three people who say which they are, a model owner, and two workers: `xwing`, whose
keys are those of `seal-v1.json`, and `x25519`. Everything comes from a label by SHA-256, but for two certificates: they
are kept in `world-certificates.json`, for a signature on one cannot be made again byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cloister.client import Floors, TrustBundle, anchor_of
from cloister.ear import AttestationResult, SigningKey
from cloister.ear.members import base64url
from cloister.kit import key_set
from cloister.kit.key_set import KeySigners
from cloister.seal import hpke, manifest
from cloister.seal.hpke import SUITES
from cloister.seal.manifest import ModelManifest
from cloister.td_measurement import TdMeasurement

FOLDER: Final = Path(__file__).parent
CLUSTER: Final = "demo.cloister.internal"
NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VERIFIER: Final = f"spiffe://{CLUSTER}/verifier/main"
MODEL, VERSION = "resnet", "1"
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def digest(label: str) -> bytes:
    """32 bytes that look random and are not."""
    return hashlib.sha256(label.encode()).digest()


def register(label: str) -> bytes:
    """48 bytes of the same kind."""
    return hashlib.sha384(label.encode()).digest()


MODEL_DIGEST: Final = digest("model")
POLICY_DIGEST: Final = digest("policy")
MRENCLAVE: Final = digest("mrenclave").hex()
TD: Final = TdMeasurement(
    mrtd=register("mrtd"),
    rtmrs=(register("rtmr0"), register("rtmr1"), register("rtmr2"), register("rtmr3")),
    mrconfigid=register("mrconfigid"),
    mrowner=bytes(48),
    mrownerconfig=bytes(48),
    attributes=1 << 28 | 1 << 63,
)
CERTIFICATES: Final[dict[str, str]] = json.loads((FOLDER / "world-certificates.json").read_text())


def p256(label: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key of a label."""
    return ec.derive_private_key(int.from_bytes(digest(label)) % P256_ORDER, ec.SECP256R1())


def ed(label: str) -> ed25519.Ed25519PrivateKey:
    """An Ed25519 key of a label."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(digest(label))


@dataclass(frozen=True, slots=True)
class Worker:
    """The keys of one worker."""

    instance: str
    pair: hpke.KeyPair
    seed: bytes
    receipt: ed25519.Ed25519PrivateKey
    ear_id: str

    @property
    def receipt_public(self) -> bytes:
        """Of its receipts, 32 bytes."""
        return self.receipt.public_key().public_bytes_raw()


def _worker(suite: str, instance: str, seed: str, receipt: str, ear_id: str) -> Worker:
    return Worker(instance, hpke.KeyPair.from_seed(suite, digest(seed)), digest(seed), ed(receipt), ear_id)


XWING: Final = _worker("xwing", "00112233445566778899aabbccddeeff", "worker", "receipt key", "ear-xwing")
X25519: Final = _worker("x25519", "ffeeddccbbaa99887766554433221100", "worker 2", "receipt key 2", "ear-x25519")

SIGNING: Final = {name: p256(f"verifier {name}") for name in ("main", "retired", "stranger")}
SIGNING_ED: Final = ed("verifier ed25519")
SIGNERS: Final = (ed("signer 1"), ed("signer 2"), ed("signer 3"))
OWNER: Final = ed("owner")


def name_of(key: ed25519.Ed25519PrivateKey) -> str:
    """A public key in hex, as trust bundles and signatures name it."""
    return key.public_key().public_bytes_raw().hex()


def jwks() -> list[dict[str, Any]]:
    """The verifier's keys with their times: one in use, one that has retired, and an Ed25519 key."""
    year = timedelta(days=365)
    return [
        key_set.timed(SigningKey(SIGNING["main"]).jwk(), NOW - timedelta(days=30), NOW + year),
        key_set.timed(SigningKey(SIGNING["retired"]).jwk(), NOW - year, NOW - timedelta(days=30)),
        key_set.timed(SigningKey(SIGNING_ED).jwk(), NOW - timedelta(days=30), NOW + year),
    ]


def signed_keys(version: int = 1, signers: int = 2, **changes: Any) -> bytes:
    """The key set, as so many of the signers vouch for it."""
    members = {"issuer": VERIFIER, "version": version, "signers": SIGNERS[:signers], **changes}
    return key_set.signed(members.pop("jwks", jwks()), **members)


def bundle(**changes: Any) -> TrustBundle:
    """What a client of it believes: Intel's root, one measurement, one owner, two of three signers, any suite."""
    made = TrustBundle(
        cluster=CLUSTER,
        root_ca_pem=CERTIFICATES["mesh_root_pem"],
        verifier_id=VERIFIER,
        verifier_jwks=json.dumps({"keys": jwks()}),
        thumbprints=frozenset(SigningKey(key).kid for key in (SIGNING["main"], SIGNING["retired"], SIGNING_ED)),
        mrenclave=frozenset({MRENCLAVE}),
        owners=frozenset({name_of(OWNER)}),
        signers=KeySigners(frozenset(map(name_of, SIGNERS)), 2),
        key_set=signed_keys(),
        floors=Floors(hpke_suites=SUITES),
    )
    return replace(made, **changes)


def simulated_bundle() -> TrustBundle:
    """The same, of a simulated mesh."""
    return bundle(anchor=anchor_of(bytes.fromhex(CERTIFICATES["simulator_root_der"])))


def result(worker: Worker = X25519, **changes: Any) -> AttestationResult:
    """What the verifier says of a worker."""
    good = AttestationResult(
        issuer=VERIFIER,
        audience="mesh",
        ear_id=worker.ear_id,
        issued_at=NOW - timedelta(minutes=10),
        expires_at=NOW + timedelta(minutes=50),
        nonce=digest("nonce"),
        role="worker",
        spiffe_id=f"spiffe://{CLUSTER}/worker/{worker.instance}",
        cluster=CLUSTER,
        instance=worker.instance,
        tls_spki_sha256=digest("tls"),
        receipt_key=worker.receipt_public,
        hpke_suite=worker.pair.suite,
        hpke_public=worker.pair.public,
        mrenclave=MRENCLAVE,
        mrsigner=digest("mrsigner").hex(),
        isvprodid=7,
        isvsvn=3,
        debug=False,
        tcb_status="UpToDate",
        advisory_ids=(),
        tcb_evaluation=17,
        ppid_sha256=digest("ppid").hex(),
        collateral_sha256=digest("collateral"),
        config_digest=digest("config"),
        anchor="intel-sgx",
        simulated=False,
        hardware=2,
        executables=2,
        configuration=2,
        policy_id="default",
        policy_digest=POLICY_DIGEST,
    )
    return replace(good, **changes)


def td_result(**changes: Any) -> AttestationResult:
    """The same of a worker in a trust domain."""
    nothing = {"mrenclave": "", "mrsigner": "", "isvprodid": 0, "isvsvn": 0}
    return result(**{"tee": "tdx", "td": TD, **nothing, **changes})


def signed_manifest(owner: ed25519.Ed25519PrivateKey = OWNER, **changes: Any) -> manifest.Signed:
    """The model's manifest, signed by its owner."""
    made = ModelManifest(
        name=MODEL,
        version=int(VERSION),
        digest=MODEL_DIGEST,
        size_bytes=5498,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        files=(("model.xml", 120), ("model.bin", 5120)),
    )
    return manifest.sign(replace(made, **changes), owner)


def jws(header: Mapping[str, Any], payload: bytes, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> str:
    """A compact JWS whose signature comes out the same each time (RFC 6979 for ES256, with the smaller s)."""
    signed = f"{base64url(json.dumps(header, separators=(',', ':')).encode())}.{base64url(payload)}"
    return f"{signed}.{base64url(signature(signed.encode(), key))}"


def signature(signed: bytes, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """A JWS signature: 64 bytes."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32) + min(s, P256_ORDER - s).to_bytes(32)
