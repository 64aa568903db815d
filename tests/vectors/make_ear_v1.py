"""Make `ear-v1.json`: Attestation Results, key sets, trust and manifests, each good once and then broken one way each.

    PYTHONPATH=tests python -m vectors.make_ear_v1

The same bytes come out each time.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloister.client import Floors, TrustBundle
from cloister.ear import MAX_TOKEN_BYTES, SigningKey
from cloister.ear.members import base64url
from cloister.ear.result import to_claims
from vectors import world
from vectors.world import MODEL, MODEL_DIGEST, NOW, SIGNING, SIGNING_ED, VERSION

PATH = world.FOLDER / "ear-v1.json"
Claims = dict[str, Any]


def header(key: Any = SIGNING["main"], **changes: Any) -> dict[str, Any]:
    """As the verifier writes it; a change to None leaves a member out."""
    signing = SigningKey(key)
    members = {"alg": signing.algorithm, "kid": signing.kid, "typ": "ear+jwt", **changes}
    return {name: value for name, value in members.items() if value is not None}


def claims(**changes: Any) -> Claims:
    """Of a good result, with changes to the result."""
    return to_claims(world.result(**changes))


def written(payload: Claims) -> bytes:
    """As the verifier writes it."""
    return json.dumps(payload, separators=(",", ":")).encode()


def token(payload: Claims | bytes | None = None, key: Any = SIGNING["main"], **header_changes: Any) -> str:
    """A token, signed by its key whatever it says."""
    raw = payload if isinstance(payload, bytes) else written(claims() if payload is None else payload)
    return world.jws(header(key, **header_changes), raw, key)


def changed(edit: Callable[[Claims], object], **result_changes: Any) -> str:
    """A signed token whose claims were edited."""
    payload = json.loads(written(claims(**result_changes)))
    edit(payload)
    return token(payload)


def _own(**members: Any) -> str:
    return changed(lambda payload: payload["cloister"].update(members))


def _tokens() -> Iterator[tuple[str, str, str | None]]:
    yield "good, ES256", token(), None
    yield "good, EdDSA", token(key=SIGNING_ED), None
    yield "good, X-Wing", token(to_claims(world.result(world.XWING))), None
    yield "good, spaces and members in another order", token(json.dumps(claims(), sort_keys=True).encode()), None
    name = {"policy_id": "Prüfung 1"}
    yield "good, a policy's name that is not ASCII", token(claims(**name)), None
    yield "good, the same in UTF-8", token(json.dumps(claims(**name), ensure_ascii=False).encode()), None
    yield "good, ended 29 s ago", token(claims(expires_at=NOW - timedelta(seconds=29))), None
    yield "good, issued in 30 s", token(claims(issued_at=NOW + timedelta(seconds=30))), None
    yield "good, valid for an hour", token(claims(expires_at=NOW + timedelta(minutes=50))), None
    yield "good, of a trust domain", token(to_claims(world.td_result())), None
    yield from _signatures()
    yield from _spellings()
    yield from _headers()
    yield from _members()
    yield from _trust_domains()
    yield from _meanings()


def _signatures() -> Iterator[tuple[str, str, str]]:
    good = token()
    signed, _, tail = good.rpartition(".")
    other = world.signature(signed.encode(), SIGNING["stranger"])
    yield "signed by another key", f"{signed}.{base64url(other)}", "token.signature"
    r, s = tail, int.from_bytes(world.signature(signed.encode(), SIGNING["main"])[32:])
    raw = world.signature(signed.encode(), SIGNING["main"])[:32] + (world.P256_ORDER - s).to_bytes(32)
    yield "the larger of the two s", f"{signed}.{base64url(raw)}", "token.signature"
    yield "the signature cut by a byte", f"{signed}.{base64url(raw[:63])}", "token.signature"
    yield (
        "claims of another token under this signature",
        f"{token(claims(isvsvn=9)).rpartition('.')[0]}.{r}",
        ("token.signature"),
    )
    yield "EdDSA said of a P-256 key", token(alg="EdDSA"), "token.signature"
    yield "ES384", token(alg="ES384"), "token.signature"
    yield "HS256 keyed with the public key", _hmac(), "token.signature"
    yield "a key that is in no set", token(key=SIGNING["stranger"]), "token.key_unknown"
    yield "no key id", token(kid=""), "token.malformed"


def _hmac() -> str:
    public = SIGNING["main"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    head = json.dumps(header(alg="HS256"), separators=(",", ":")).encode()
    signed = f"{base64url(head)}.{base64url(written(claims()))}"
    return f"{signed}.{base64url(hmac.new(public, signed.encode(), sha256).digest())}"


def _spellings() -> Iterator[tuple[str, str, str]]:
    good = token()
    head, payload, tail = good.split(".")
    yield "empty", "", "token.malformed"
    yield "two segments", f"{head}.{payload}", "token.malformed"
    yield "four segments", f"{good}.{tail}", "token.malformed"
    yield (
        "an empty signature, alg none",
        f"{base64url(json.dumps(header(alg='none')).encode())}.{payload}.",
        ("token.malformed"),
    )
    yield "padding", f"{head}.{payload}.{tail}==", "token.malformed"
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    yield (
        "a last character with bits that count for nothing",
        good[:-1] + last[last.index(good[-1]) ^ 1],
        ("token.malformed"),
    )
    yield "a line break after it", f"{good}\n", "token.malformed"
    yield "the other base64", good.replace("-", "+").replace("_", "/"), "token.malformed"
    long = token(claims(policy_id="x" * 2048, advisory_ids=tuple(["INTEL-SA-00000" * 100] * 9)))
    assert len(long) > MAX_TOKEN_BYTES
    yield "more than 16 KiB", long, "token.malformed"


def _headers() -> Iterator[tuple[str, str, str]]:
    yield "a key in the header", token(jwk=SigningKey(SIGNING["main"]).jwk()), "token.malformed"
    yield "where to fetch keys", token(jku="https://keys.example/"), "token.malformed"
    yield "critical members", token(crit=["exp"]), "token.malformed"
    yield "another type", token(typ="JWT"), "token.malformed"
    yield "no type", token(typ=None), "token.malformed"
    raw = json.dumps(header(), separators=(",", ":"))
    twice = raw[:-1] + ',"alg":"EdDSA"}'
    signed = f"{base64url(twice.encode())}.{base64url(written(claims()))}"
    yield (
        "alg twice in the header",
        f"{signed}.{base64url(world.signature(signed.encode(), SIGNING['main']))}",
        ("token.malformed"),
    )


def _members() -> Iterator[tuple[str, str, str]]:
    malformed = {
        "a member more": lambda p: p.update(sub="x"),
        "a member less": lambda p: p.pop("eat_nonce"),
        "one of ours more": lambda p: p["cloister"].update(extra=1),
        "one of ours less": lambda p: p["cloister"].pop("debug"),
        "another profile": lambda p: p.update(eat_profile="tag:github.com,2024:veraison/ear"),
        "audience as a list": lambda p: p.update(aud=["mesh"]),
        "a time as text": lambda p: p.update(exp=str(p["exp"])),
        "a time with a fraction": lambda p: p.update(exp=p["exp"] + 0.5),
        "a time before 1970": lambda p: p.update(iat=-1),
        "a time beyond 32 bits": lambda p: p.update(exp=1 << 32),
        "a receipt key on another curve": lambda p: p["cnf"]["jwk"].update(crv="X25519"),
        "a receipt key of 31 bytes": lambda p: p["cnf"]["jwk"].update(x=base64url(bytes(31))),
        "two keys in cnf": lambda p: p["cnf"].update(kid="x"),
        "a submodule of another role": lambda p: p.update(submods={"gateway": p["submods"]["worker"]}),
        "two submodules": lambda p: p["submods"].update(gateway=p["submods"]["worker"]),
        "a status that the vector does not give": lambda p: p["submods"]["worker"].update({"ear.status": "warning"}),
        "a claim of the vector out of range": lambda p: p["submods"]["worker"]["ear.trustworthiness-vector"].update(
            hardware=128
        ),
    }
    for name, edit in malformed.items():
        yield name, changed(edit), "token.malformed"
    yield "simulated as text", _own(simulated="false"), "token.malformed"
    yield "debug as a number", _own(debug=0), "token.malformed"
    yield "isvsvn as true", _own(isvsvn=True), "token.malformed"
    yield "a measurement in capitals", _own(mrenclave=world.MRENCLAVE.upper()), "token.malformed"
    yield "a digest in hexadecimal", _own(config_digest=world.digest("config").hex()), "token.malformed"
    yield "a control character in a text", _own(tcb_status="UpToDate\n"), "token.malformed"
    yield "an empty text", _own(anchor=""), "token.malformed"
    twice = written(claims())[:-1] + b',"aud":"mesh2"}'
    yield "a member twice", token(twice), "token.malformed"
    yield "not JSON", token(b"{" + written(claims())), "token.malformed"
    yield "no object", token(b"[]"), "token.malformed"


def _trust_domains() -> Iterator[tuple[str, str, str]]:
    good = json.loads(written(to_claims(world.td_result())))
    td = good["cloister"]["td"]

    def own(**members: Any) -> str:
        return token({**good, "cloister": {**good["cloister"], **members}})

    yield "a trust domain that is called an enclave", own(tee="sgx"), "token.malformed"
    yield "an enclave that is called a trust domain", _own(tee="tdx"), "token.malformed"
    yield "another technology", own(tee="sev"), "token.malformed"
    yield "a trust domain with MRENCLAVE besides", own(mrenclave=world.MRENCLAVE), "token.malformed"
    yield "a register in capitals", own(td={**td, "rtmr3": td["rtmr3"].upper()}), "token.malformed"
    yield "a register of 32 bytes", own(td={**td, "mrtd": world.MRENCLAVE}), "token.malformed"
    yield "a register more", own(td={**td, "rtmr4": td["rtmr3"]}), "token.malformed"
    yield "attributes as a number", own(td={**td, "attributes": 1 << 28}), "token.malformed"


def _meanings() -> Iterator[tuple[str, str, str]]:
    fits_not = {"spiffe_id": f"spiffe://other.example/worker/{world.X25519.instance}"}
    yield "simulated, and hardware affirmed", token(claims(simulated=True)), "token.malformed"
    yield "a SPIFFE id of another cluster than it says", token(claims(**fits_not)), "token.malformed"
    yield "ends when it begins", token(claims(expires_at=NOW - timedelta(minutes=10))), "token.malformed"
    yield "another issuer", token(claims(issuer=f"spiffe://{world.CLUSTER}/verifier/other")), "token.issuer"
    yield "for the provisioner", token(claims(audience="provisioner")), "token.audience"
    yield "by a key that had retired", token(key=SIGNING["retired"]), "token.key_retired"
    yield "issued in 31 s", token(claims(issued_at=NOW + timedelta(seconds=31))), "token.not_yet"
    ended = {"issued_at": NOW - timedelta(minutes=50), "expires_at": NOW - timedelta(seconds=30)}
    yield "ended 30 s ago", token(claims(**ended)), "token.expired"
    yield (
        "valid for an hour and a second",
        token(claims(expires_at=NOW + timedelta(minutes=50, seconds=1))),
        ("token.too_long"),
    )


def _key_sets() -> Iterator[tuple[str, bytes, str | None]]:
    refused = "verifier_keys.refused"
    good = world.signed_keys()
    yield "good, two of three", good, None
    yield "good, three of three, version 7", world.signed_keys(7, 3), None
    yield "signed by one", world.signed_keys(1, 1), refused
    yield "of another verifier", world.signed_keys(issuer=f"spiffe://{world.CLUSTER}/verifier/other"), refused
    yield "version 0", world.signed_keys(0), refused
    yield "a key without an end", world.signed_keys(jwks=_without("exp")), refused
    yield "a key named as another", world.signed_keys(jwks=_with(kid="x" * 43)), refused
    yield "a private key", world.signed_keys(jwks=_with(d=base64url(bytes(32)))), refused
    yield "a key that ends before it begins", world.signed_keys(jwks=_with(nbf=2, exp=1)), refused
    yield "no keys", world.signed_keys(jwks=[]), refused
    members = json.loads(good)
    yield "another payload type", _envelope(members, payloadType="application/json"), refused
    other = json.loads(world.signed_keys(9))["payload"]
    yield "another payload under these signatures", _envelope(members, payload=other), refused
    rows = members["signatures"]
    yield "one signature under two names", _envelope(members, signatures=[rows[0], {**rows[0], "keyid": "x"}]), refused
    yield "one key twice", _envelope(members, signatures=[rows[0], rows[0]]), refused
    yield "a member more", _envelope(members, extra=1), refused
    yield "not JSON", good + b"}", refused


def _with(**members: Any) -> list[dict[str, Any]]:
    first, *rest = world.jwks()
    return [{**first, **members}, *rest]


def _without(name: str) -> list[dict[str, Any]]:
    first, *rest = world.jwks()
    return [{member: value for member, value in first.items() if member != name}, *rest]


def _envelope(members: Mapping[str, Any], **changes: Any) -> bytes:
    return json.dumps({**members, **changes}).encode()


def _workers() -> Iterator[dict[str, Any]]:
    trust, simulated = world.bundle(), world.simulated_bundle()
    signed = world.signed_manifest()
    good: dict[str, Any] = {
        "trust_changes": {},
        "model_name": MODEL,
        "instance": world.X25519.instance,
        "token": token(),
        "model_version": VERSION,
        "model_digest": MODEL_DIGEST.hex(),
        "manifest": signed.manifest.hex(),
        "signature": signed.signature.hex(),
        "public_key": signed.public_key.hex(),
        "reason": None,
    }

    def case(name: str, reason: str | None, **changes: Any) -> dict[str, Any]:
        return {"name": name, **good, **changes, "reason": reason}

    def says(**changes: Any) -> str:
        return token(to_claims(world.result(**changes)))

    def under(bundle: TrustBundle, **changes: Any) -> dict[str, Any]:
        """Members of the bundle that are other than in `trust`; None for those that it lacks."""
        made, known = json.loads(replace(bundle, **changes).to_json()), json.loads(trust.to_json())
        return {"trust_changes": {name: made.get(name) for name in made | known if made.get(name) != known.get(name)}}

    of_simulator = says(simulated=True, hardware=96, anchor="simulated")
    xwing = {"token": token(to_claims(world.result(world.XWING))), "instance": world.XWING.instance}
    yield case("good", None)
    yield case("good, X-Wing", None, **xwing)
    yield case("good, simulated, to who trusts the simulator", None, token=of_simulator, **under(simulated))
    yield case("good, one of two measurements", None, **under(trust, mrenclave=frozenset({world.MRENCLAVE, "ab" * 32})))
    yield case("good, X-Wing, to who wants no other", None, **xwing, **under(trust, floors=Floors()))
    yield case("a suite below the floor", "suite.below_floor", **under(trust, floors=Floors()))
    yield case("good, any owner", None, **under(trust, owners=None))
    yield case("good, the verifier's policy named", None, **under(trust, verifier_policies=_digests("policy")))
    yield case("simulated, to who trusts Intel", "anchor.other", token=of_simulator)
    yield case("genuine, to who trusts a simulator", "anchor.other", **under(simulated))
    yield case("a debug enclave", "enclave.debug", token=says(debug=True))
    other = "spiffe://other.example/worker/" + world.X25519.instance
    yield case("of another cluster", "identity.other", token=says(cluster="other.example", spiffe_id=other))
    gateway = f"spiffe://{world.CLUSTER}/gateway/{world.X25519.instance}"
    yield case("of another role", "identity.other", token=says(role="gateway", spiffe_id=gateway))
    stranger = f"spiffe://{world.CLUSTER}/worker/{world.XWING.instance}"
    yield case("a SPIFFE id of another run", "identity.other", token=says(spiffe_id=stranger))
    yield case("evidence of another worker", "instance.other", instance=world.XWING.instance)
    yield case("another measurement", "measurement.unknown", token=says(mrenclave="ab" * 32))
    yield case("no measurement pinned", "measurement.unpinned", **under(trust, mrenclave=None))
    domain = {"token": token(to_claims(world.td_result()))}
    only = {"mrenclave": None, "td_measurement": frozenset({world.TD.digest.hex()})}
    yield case("good, a trust domain", None, **domain, **under(trust, **only))
    yield case("good, an enclave beside trust domains", None, **under(trust, td_measurement=only["td_measurement"]))
    yield case("a trust domain, to who names enclaves", "tee.other", **domain)
    same = frozenset({world.MRENCLAVE})
    yield case("an enclave, to who names its digits", "tee.other", **under(trust, mrenclave=None, td_measurement=same))
    others = under(trust, mrenclave=None, td_measurement=frozenset({"ab" * 32}))
    yield case("another trust domain", "measurement.unknown", **domain, **others)
    unpinned = under(trust, mrenclave=None)
    yield case("a trust domain, to who names nobody", "measurement.unpinned", **domain, **unpinned)
    yield case("another policy of the verifier", "policy.other", **under(trust, verifier_policies=_digests("other")))
    stolen = world.signed_manifest(world.ed("thief"))
    thief = {"manifest": stolen.manifest.hex(), "signature": stolen.signature.hex()}
    yield case("another owner", "owner.unknown", **thief, public_key=stolen.public_key.hex())
    yield case("another owner's signature", "manifest.invalid", **thief)
    altered = signed.manifest.replace(b'"version":1', b'"version":2')
    yield case("a manifest that was altered", "manifest.invalid", manifest=altered.hex(), model_version="2")
    yield case("offered as another version", "manifest.other", model_version="2")
    yield case("offered with another digest", "manifest.other", model_digest=world.digest("other").hex())
    yield case("offered as another model", "manifest.other", model_name="bert")


def _digests(label: str) -> frozenset[str]:
    return frozenset({world.digest(label).hex()})


def vectors() -> dict[str, Any]:
    """Return what the file is to hold."""
    return {
        "now": NOW.isoformat(),
        "issuer": world.VERIFIER,
        "audience": "mesh",
        "max_life_s": 3600,
        "jwks": {"keys": world.jwks()},
        "claims": claims(),
        "tokens": [{"name": name, "token": text, "reason": reason} for name, text, reason in _tokens()],
        "key_signers": sorted(map(world.name_of, world.SIGNERS)),
        "key_threshold": 2,
        "key_sets": [{"name": name, "key_set": raw.decode(), "reason": reason} for name, raw, reason in _key_sets()],
        "trust": json.loads(world.bundle().to_json()),
        "workers": list(_workers()),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
