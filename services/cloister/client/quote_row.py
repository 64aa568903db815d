"""One field of a quote, and the words for what stands in it: what the layouts of both technologies are made of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from enum import IntFlag
from typing import Final, NamedTuple

from cryptography import x509

from cloister.appraisal.quote import INTEL_QE_VENDOR_ID
from cloister.appraisal.steps import Step

_XFRM: Final = {0: "x87", 1: "SSE", 2: "AVX", 3: "BNDREGS", 4: "BNDCSR", 5: "opmask", 6: "ZMM_Hi256", 7: "Hi16_ZMM"}
_XFRM_LATER: Final = {9: "PKRU", 17: "TILECFG", 18: "TILEDATA"}


class Row(NamedTuple):
    """One field: how long it is, what it is called and means, what is asked of it, and in which step."""

    name: str
    size: int
    worded: Callable[[bytes], str]
    meaning: str
    check: str
    step: int


def number(raw: bytes) -> str:
    """A little-endian integer in decimal."""
    return str(int.from_bytes(raw, "little"))


def nothing(_: bytes) -> str:
    """No words: the bytes say it best."""
    return ""


def zero(raw: bytes) -> str:
    """Whether anything is set."""
    return "all zero" if not any(raw) else "not zero"


def flags_of(known: type[IntFlag], raw: bytes) -> str:
    """The attributes that are set, by name, and those without a name as one number."""
    value = int.from_bytes(raw, "little")
    names = [str(flag.name) for flag in known if value & flag]
    unnamed = value & ~sum(known)
    return ", ".join([*names, f"{unnamed:#x}"] if unnamed else names) or "none"


def state(raw: bytes) -> str:
    """Processor state by name, as XFRM and XFAM list it."""
    value = int.from_bytes(raw, "little")
    known = {**_XFRM, **_XFRM_LATER}
    return ", ".join(known.get(bit, f"bit {bit}") for bit in range(64) if value >> bit & 1) or "none"


def vendor(raw: bytes) -> str:
    """Who wrote the quoting enclave."""
    return "Intel" if raw == INTEL_QE_VENDOR_ID else "unknown"


def binding(raw: bytes) -> str:
    """Whether report data has the form that Cloister gives it."""
    return "SHA-256 of the claims, then 32 zero bytes" if not any(raw[32:]) else "not as Cloister's workers fill it"


def chain(raw: bytes) -> str:
    """Whom each certificate names, leaf first; it has been parsed before, so this cannot fail on a genuine quote."""
    try:
        found = x509.load_pem_x509_certificates(raw.rstrip(b"\0"))
    except ValueError:
        return "certificates that do not parse"
    return "; ".join(f"{_name(one)}, until {one.not_valid_after_utc.astimezone(UTC).date()}" for one in found)


def _name(certificate: x509.Certificate) -> str:
    named = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(named[0].value) if named else "without a name"


def reserved(size: int) -> Row:
    """A field that nobody uses yet."""
    meaning = "Kept free by Intel for later."
    return Row("Reserved", size, zero, meaning, "Must be zero: a bit that nobody knows is not believed.", Step.QUOTE)
