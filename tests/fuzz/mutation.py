"""Changes that keep structure: of bytes, numbers, JSON and CBOR values, PEM, DER and ECDSA signatures."""

from __future__ import annotations

import copy
import re
from base64 import b64decode, encodebytes
from collections.abc import Callable
from random import Random
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloister import der

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NUMBERS = (0, 1, -1, 2, 3, 9, 15, 16, 17, 127, 128, 255, 256, 65535, 65536, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**30)
TEXTS = ("", "x", "true", "null", "UpToDate", "Revoked", "é", "\ud800", "\0", "A" * 70, "2026-01-01T00:00:00Z", "SGX")
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n?", re.DOTALL)


def changed_bytes(rng: Random, raw: bytes) -> bytes:
    """Flip, overwrite, cut, insert, repeat, or pad."""
    if not raw:
        return rng.randbytes(rng.randrange(1, 40))
    at = rng.randrange(len(raw))
    end = min(len(raw), at + rng.choice((1, 1, 2, 4, 32, 300)))
    match rng.randrange(8):
        case 0 | 1:
            return raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
        case 2:
            return raw[:at] + rng.choice((b"\0", b"\xff", b"\x80", b"\x7f")) * (end - at) + raw[end:]
        case 3:
            return raw[:at] + rng.randbytes(end - at) + raw[end:]
        case 4:
            return raw[:at] + raw[end:]
        case 5:
            return raw[:at] + raw[at:end] + raw[at:]
        case 6:
            return raw[:at]
        case _:
            return raw + rng.choice((b"\0", b"\0" * 70, b"\n", b" ", rng.randbytes(3), raw[:50]))


def changed_number(rng: Random, value: int) -> int:
    """A number nearby, or at an edge."""
    return rng.choice((value + 1, value - 1, value ^ 1 << rng.randrange(17), *NUMBERS))


def changed_value(rng: Random, value: Any) -> Any:
    """A JSON or CBOR value with one thing changed somewhere inside."""
    value = copy.deepcopy(value)
    holders = list(_holders(value))
    if not holders or rng.random() < 0.03:
        return _other(rng, value)
    holder, key = rng.choice(holders)
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(("x", f"{key}", f"{key} ", "__proto__"))] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(rng.choice(holder)))
        case 3:
            other, name = rng.choice(holders)
            holder[key] = copy.deepcopy(other[name])
        case _:
            holder[key] = _other(rng, holder[key])
    return value


def _holders(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a value that can be changed."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _holders(value[key])]


def _other(rng: Random, value: Any) -> Any:
    if rng.random() < 0.25:
        return rng.choice(
            (None, True, False, [], {}, 1.5, [value], {"x": value}, rng.choice(NUMBERS), rng.choice(TEXTS))
        )
    match value:
        case bool():
            return rng.choice((not value, int(value), str(value).lower(), None))
        case int():
            return changed_number(rng, value)
        case bytes():
            return changed_bytes(rng, value)
        case str() if value and rng.random() < 0.7:
            at = rng.randrange(len(value))
            return value[:at] + rng.choice('0123456789abcdefABCDEF-_.:/ \n"é') + value[at + rng.randrange(2) :]
        case _:
            return rng.choice(TEXTS)


def changed_cbor(rng: Random, raw: bytes) -> bytes:
    """CBOR with a value changed inside, or the same values in another form."""
    value = cbor2.loads(raw)
    match rng.randrange(7):
        case 0:
            return changed_bytes(rng, raw)
        case 1 if isinstance(value, dict) and value:
            members = rng.sample(list(value.items()), len(value))
            return cbor2.dumps(dict(members))
        case 2:
            return bytes([raw[0] | 0x1F]) + raw[1:] + b"\xff"
        case 3 if isinstance(value, dict) and value:
            key = rng.choice(list(value))
            doubled = cbor2.dumps(key) + cbor2.dumps(rng.choice(list(value.values())))
            return cbor2.dumps(value, canonical=True)[:1].translate(_ONE_MORE) + raw[1:] + doubled
        case 4:
            tag = rng.choice((0, 1, 2, 4, 5, 24, 28, 29, 30, 35, 36, 258, 55799, 60000))
            return cbor2.dumps(cbor2.CBORTag(tag, changed_value(rng, value)))
        case _:
            return cbor2.dumps(changed_value(rng, value), canonical=True)


_ONE_MORE = bytes(min(byte + 1, 0xFF) for byte in range(256))


def changed_der(rng: Random, raw: bytes, *, depth: int = 0) -> bytes:
    """DER with a value changed somewhere inside, and every length around it made right again."""
    try:
        values = der.elements(raw)
    except ValueError:
        values = []
    if not values or depth > 8:
        return changed_bytes(rng, raw)
    at = rng.randrange(len(values))
    tag, inside = values[at]
    pieces = [der.encoded(tag, inside) for tag, inside in values]
    match rng.randrange(10):
        case 0:
            del pieces[at]
        case 1:
            pieces.insert(at, pieces[rng.randrange(len(pieces))])
        case 2:
            pieces[at] = der.encoded(rng.choice((tag ^ 0x20, 0x05, 0x30, 0x04, 0x0C)), inside)
        case 3:
            pieces[at] = changed_bytes(rng, pieces[at])
        case _:
            pieces[at] = _encoded(tag, changed_der(rng, inside, depth=depth + 1))
    return b"".join(pieces)


def _encoded(tag: int, inside: bytes) -> bytes:
    return der.encoded(tag, inside[:60_000])


def changed_pem(rng: Random, pem: bytes, others: list[bytes] | None = None) -> bytes:
    """A chain in another order, with one more or one less, in another spelling, or with a certificate changed."""
    blocks = PEM.findall(pem)
    if not blocks:
        return changed_bytes(rng, pem)
    at = rng.randrange(len(blocks))
    match rng.randrange(8):
        case 0:
            rng.shuffle(blocks)
        case 1:
            del blocks[at]
        case 2:
            blocks.insert(at, rng.choice(blocks + (others or [])))
        case 3:
            blocks[at] = blocks[at].replace(b"\n", rng.choice((b"\r\n", b"\n\n", b" \n", b"")), rng.randrange(1, 9))
        case 4:
            blocks *= rng.choice((2, 20))
        case 5:
            return changed_bytes(rng, pem)
        case _:
            blocks[at] = _pem(changed_der(rng, _unarmoured(blocks[at])))
    return b"".join(blocks)


def _unarmoured(block: bytes) -> bytes:
    return b64decode(b"".join(block.split()[2:-2]) + b"===")


def _pem(raw: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(raw) + b"-----END CERTIFICATE-----\n"


def signed_again(rng: Random, raw: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate or revocation list with something changed inside, and then signed by who should."""
    (_, tbs), (_, algorithm), _ = der.elements(der.contents(raw, der.SEQUENCE))
    changed = changed_der(rng, der.encoded(der.SEQUENCE, tbs))
    signature = der.encoded(der.BIT_STRING, b"\0" + key.sign(changed, ec.ECDSA(hashes.SHA256())))
    return der.encoded(der.SEQUENCE, changed + der.encoded(der.SEQUENCE, algorithm) + signature)


def first_signed_again(rng: Random, pem: bytes, key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """A chain whose first certificate was changed and signed again, and that certificate."""
    first, *others = PEM.findall(pem)
    made = signed_again(rng, _unarmoured(first), key)
    return b"".join([_pem(made), *others]), made


def changed_signature(rng: Random, signature: bytes) -> bytes:
    """R and s, 64 bytes: malleated, zero, out of range, or just other bytes."""
    if len(signature) != 64:
        return changed_bytes(rng, signature)
    s = int.from_bytes(signature[32:], "big")
    choices: tuple[Callable[[], bytes], ...] = (
        lambda: signature[:32] + ((ORDER - s) % ORDER).to_bytes(32, "big"),
        lambda: bytes(64),
        lambda: ORDER.to_bytes(32, "big") + signature[32:],
        lambda: signature[32:] + signature[:32],
        lambda: changed_bytes(rng, signature),
    )
    return rng.choice(choices)()
