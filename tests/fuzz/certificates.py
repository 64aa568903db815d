"""RA-TLS certificates: their DER, their evidence and their claims changed, and signed by their key or by a thief's."""

from __future__ import annotations

from base64 import b64decode
from random import Random

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloister import der
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.verify import verify_quote
from cloister.errors import EvidenceRejected
from cloister.evidence import ratls
from fakes.ra_tls import EVIDENCE, Certificate, attester, attester_claims, legacy_attester, spki_of
from fakes.sim import good_evidence
from fuzz.mutation import changed_bytes, changed_cbor, changed_der
from fuzz.quotes import NOW, Quotes
from fuzz.target import Violation


class Certificates:
    """`ratls.read`, and the quote inside judged with it."""

    name = "certificate"

    def __init__(self) -> None:
        self._quotes = Quotes()
        platform = self._quotes.platform
        key = ec.generate_private_key(ec.SECP256R1())
        worker = good_evidence(platform=platform, tls_key=key, hpke_suite="x25519")
        made = [
            attester(platform),
            attester(platform, key=key, claims=attester_claims(spki_of(key), nonce=b"n" * 32, key_0="x")),
            Certificate(key=key, extensions=[(EVIDENCE, False, _value(worker.quote, worker.claims_bytes))]),
            legacy_attester(platform),
        ]
        both = attester(platform, key=key)
        older = legacy_attester(platform, key=key)
        both.extensions = [*older.extensions, *both.extensions]
        made.append(both)
        self._keys = {one.spki: one.key for one in made}
        self.seeds = [one.der() for one in made] + [made[0].pem()]
        # Whoever holds the key may take the newer extension off a certificate that has both, and sign it again.
        bound = [self._read(raw, allowed) for raw in (*self.seeds, older.der()) for allowed in (True, False)]
        self._bound = {each for each in bound if each is not None}
        self._thief = ec.generate_private_key(ec.SECP256R1())

    def judge(self, raw: bytes) -> None:
        found = ratls.read(raw, NOW, allow_legacy=True)
        if not found.legacy and ratls.read(raw, NOW) != found:
            raise Violation("the legacy option changes what is read of the interoperable form")
        if self._proven(found) not in self._bound:
            raise Violation("a genuine quote was accepted for a key or nonce that it is not over")

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        if raw.startswith(b"-----BEGIN"):
            return changed_bytes(rng, raw) if rng.random() < 0.5 else self.mutated(rng, _unarmoured(raw))
        tbs, algorithm, signature = (der.encoded(*each) for each in der.elements(der.contents(raw, der.SEQUENCE)))
        match rng.randrange(8):
            case 0:
                return changed_bytes(rng, raw)
            case 1:
                return changed_der(rng, raw)
            case 2 | 3 | 4:
                tbs = _changed_evidence(rng, tbs)
            case 5:
                tbs = tbs.replace(self._key_in(tbs)[0], spki_of(self._thief))
            case _:
                tbs = changed_der(rng, tbs)
        return self._signed(rng, tbs, algorithm, signature)

    def _read(self, raw: bytes, allow_legacy: bool) -> tuple[object, ...] | None:
        try:
            return self._proven(ratls.read(raw, NOW, allow_legacy=allow_legacy))
        except EvidenceRejected:
            return None

    def _proven(self, found: ratls.RaTlsEvidence) -> tuple[object, ...]:
        endorsed = self._quotes.endorsed
        quote = verify_quote(found.raw_quote, endorsed, endorsed.anchor, NOW).quote
        if quote.body.report_data != found.report_data:
            raise rejected(Step.BINDING, "claims.unbound", "the quote is not over what came with it")
        return quote.signed, found.spki_sha256, found.nonce, found.legacy

    def _key_in(self, tbs: bytes) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        thief = (spki_of(self._thief), self._thief)
        return next(((spki, key) for spki, key in self._keys.items() if spki in tbs), thief)

    def _signed(self, rng: Random, tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
        if rng.random() < 0.8:
            key = self._thief if rng.random() < 0.1 else self._key_in(tbs)[1]
            signature = der.encoded(der.BIT_STRING, b"\0" + key.sign(tbs, ec.ECDSA(hashes.SHA256())))
        return _sequence(tbs + algorithm + signature)


def _value(quote: bytes, claims: bytes) -> bytes:
    return ratls.evidence_extension(quote, claims).value


def _sequence(inside: bytes) -> bytes:
    return der.encoded(der.SEQUENCE, inside)


def _unarmoured(pem: bytes) -> bytes:
    return b64decode(b"".join(pem.split(b"\n")[1:-2]))


def _changed_evidence(rng: Random, tbs: bytes) -> bytes:
    """Quote or claims changed inside the extension, with all lengths around them made right."""
    parts = der.elements(der.contents(tbs, der.SEQUENCE))
    extensions = der.elements(der.contents(parts[-1][1], der.SEQUENCE))
    rows = [[list(each) for each in der.elements(inside)] for _, inside in extensions]
    row = rng.choice(rows)
    row[-1][1] = _changed_value(rng, row[-1][1])
    inside = b"".join(_sequence(b"".join(der.encoded(*each) for each in row)) for row in rows)
    head = b"".join(der.encoded(*each) for each in parts[:-1])
    return _sequence(head + der.encoded(0xA3, _sequence(inside)))


def _changed_value(rng: Random, value: bytes) -> bytes:
    if not value.startswith(b"\xd9\xea\x60") or rng.random() < 0.2:
        return changed_bytes(rng, value)
    if rng.random() < 0.2:
        return changed_cbor(rng, value)
    quote, claims = cbor2.loads(value).value
    if rng.random() < 0.2:
        return _value(changed_bytes(rng, quote), claims)
    return _value(quote, changed_cbor(rng, claims))
