"""Quotes of a simulated platform, and of real trust domains where the corpus is there, taken apart and changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.certs import split_pem
from cloister.appraisal.collateral import Collateral, VerifiedCollateral
from cloister.appraisal.pck import Platform
from cloister.appraisal.tcb import Tcb
from cloister.appraisal.verify import verify_quote
from cloister_simulator.platform import Platform as Simulated
from cloister_simulator.recipe import label_digest
from cloister_simulator.signature import raw_public_key, raw_signature
from fakes import corpus
from fakes.sim import simulated_platform
from fuzz.mutation import changed_bytes, changed_number, changed_pem, changed_signature, first_signed_again
from fuzz.target import Violation

NOW = datetime.fromisoformat("2026-11-22T12:00:00Z")
_BODY_AT = {3: (48, 384), 4: (48, 584), 5: (54, 648)}
_TRUST_DOMAINS = ("tdx4-utd-02:valid", "tdx5-td15ex-01:valid")


@dataclass(frozen=True)
class Judged:
    """What a seed is judged by, and what was found of it."""

    endorsed: VerifiedCollateral
    now: datetime
    platform: Platform
    tcb: Tcb


class Quotes:
    """`verify_quote` with collateral that was verified before."""

    name = "quote"

    def __init__(self) -> None:
        self.platform = simulated_platform(NOW)
        anchor = TrustAnchor("simulator", self.platform.root_der())
        self.endorsed = Collateral.parse(self.platform.collateral()).verified(anchor, NOW)
        self.seeds: list[bytes] = []
        self._judged: dict[bytes, Judged] = {}
        # PCK certificates that the platform CA signed after they were changed: of whatever platform they say.
        self._certified: set[bytes] = set()
        self._of_version: dict[int, tuple[VerifiedCollateral, datetime]] = {3: (self.endorsed, NOW)}
        for n in range(3):
            enclave = label_digest(f"enclave {n}")
            self._add(self.platform.quote(bytes([n] * 64), mrenclave=enclave, isvsvn=n), self.endorsed, NOW)
        for name in _TRUST_DOMAINS if corpus.present() else ():
            self._add_real(corpus.evaluation(name))
        self._strangers = [Simulated.generate(NOW).quote(bytes(64)), self._elsewhere()]

    def judge(self, raw: bytes) -> None:
        endorsed, now = self._of_version.get(int.from_bytes(raw[:2], "little"), (self.endorsed, NOW))
        found = verify_quote(raw, endorsed, endorsed.anchor, now)
        seed = self._judged.get(found.quote.signed)
        certified = split_pem(found.quote.pck_chain)[0] in self._certified
        if seed is None or ((found.platform, found.tcb) != (seed.platform, seed.tcb) and not certified):
            raise Violation("a quote was accepted that nobody signed, or of another platform or level")

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        parts = _taken_apart(raw)
        if rng.random() < 0.15:
            return changed_bytes(rng, raw)
        name = rng.choice(list(parts))
        match rng.randrange(7):
            case 6:
                key = self.platform.keys.platform_ca
                parts["certificates"], made = first_signed_again(rng, parts["certificates"], key)
                self._certified.add(made)
            case 0:
                other = self._other(rng)
                parts[name] = other.get(name, parts[name])
            case 1:
                return _joined(
                    {**parts, name: changed_bytes(rng, parts[name])}, lie=rng.choice((None, *_LENGTHS)), rng=rng
                )
            case 2 if name == "certificates" or rng.random() < 0.5:
                parts["certificates"] = changed_pem(rng, parts["certificates"])
            case 3:
                name = rng.choice(("signature", "qe_signature"))
                parts[name] = changed_signature(rng, parts[name])
            case 4:
                _sign_again(rng, parts)
            case _:
                parts[name] = changed_bytes(rng, parts[name])
        return _joined(parts)

    def _add(self, raw: bytes, endorsed: VerifiedCollateral, now: datetime) -> None:
        found = verify_quote(raw, endorsed, endorsed.anchor, now)
        self.seeds.append(raw)
        self._judged[found.quote.signed] = Judged(endorsed, now, found.platform, found.tcb)

    def _add_real(self, one: corpus.Evaluation) -> None:
        endorsed = Collateral.parse(one.collateral.read_bytes()).verified(one.anchor(), one.now)
        raw = one.quote.read_bytes()
        self._of_version[int.from_bytes(raw[:2], "little")] = (endorsed, one.now)
        self._add(raw, endorsed, one.now)

    def _elsewhere(self) -> bytes:
        """A quote under the same root of a platform that is patched less."""
        other = self.platform.copy()
        other.tcb_components = (0,) * 16
        return other.quote(bytes(64))

    def _other(self, rng: Random) -> dict[str, bytes]:
        return _taken_apart(rng.choice(self.seeds + self._strangers))


_LENGTHS = ("signature_data", "wrapped", "qe_auth", "certificates")


def _taken_apart(raw: bytes) -> dict[str, bytes]:
    """The parts of a quote by name, lengths left out; raises ValueError for what has not enough bytes."""
    version = int.from_bytes(raw[:2], "little")
    if version not in _BODY_AT or len(raw) < 1200:
        raise ValueError("not a quote to take apart")
    start, size = _BODY_AT[version]
    at = start + size + 4
    wrapped = 0 if version == 3 else 6
    qe = at + 128 + wrapped
    auth = qe + 448 + 2
    auth_end = auth + int.from_bytes(raw[auth - 2 : auth], "little")
    certificates = auth_end + 6
    return {
        "header": raw[:start],
        "body": raw[start : start + size],
        "signature": raw[at : at + 64],
        "key": raw[at + 64 : at + 128],
        "wrapping": raw[at + 128 : at + 128 + min(wrapped, 2)],
        "qe_report": raw[qe : qe + 384],
        "qe_signature": raw[qe + 384 : qe + 448],
        "qe_auth": raw[auth:auth_end],
        "kind": raw[auth_end : auth_end + 2],
        "certificates": raw[certificates:],
    }


def _joined(parts: dict[str, bytes], *, lie: str | None = None, rng: Random | None = None) -> bytes:
    """The quote of these parts, with its lengths right but for the one that is to lie."""

    def length(name: str, value: int, size: int) -> bytes:
        said = changed_number(rng, value) if name == lie and rng is not None else value
        return (said % (1 << 8 * size)).to_bytes(size, "little")

    certified = b"".join(
        (
            parts["qe_report"],
            parts["qe_signature"],
            length("qe_auth", len(parts["qe_auth"]), 2),
            parts["qe_auth"],
            parts["kind"],
            length("certificates", len(parts["certificates"]), 4),
            parts["certificates"],
        )
    )
    if parts["wrapping"]:
        certified = parts["wrapping"] + length("wrapped", len(certified), 4) + certified
    data = parts["signature"] + parts["key"] + certified
    return parts["header"] + parts["body"] + length("signature_data", len(data), 4) + data


def _sign_again(rng: Random, parts: dict[str, bytes]) -> None:
    """What a thief does: another body under its own key, and where it may, the quoting enclave's word for that key."""
    thief = ec.derive_private_key(rng.randrange(1, 1 << 128), ec.SECP256R1())
    parts["body"] = changed_bytes(rng, parts["body"])[: len(parts["body"])].ljust(len(parts["body"]), b"\0")
    parts["key"] = raw_public_key(thief)
    parts["signature"] = raw_signature(thief, parts["header"] + parts["body"])
    if rng.random() < 0.5:
        bound = hashlib.sha256(parts["key"] + parts["qe_auth"]).digest()
        parts["qe_report"] = parts["qe_report"][:320] + bound + bytes(32)
