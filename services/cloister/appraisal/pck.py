"""The SGX extension of a PCK certificate: which platform this is, and how far it is patched.

Intel's "PCK Certificate and CRL Profile", section 2.1: a sequence of pairs of object identifier and value under
1.2.840.113741.1.13.1. Members that we do not use may appear; those we use appear once and have their exact form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cloister import der
from cloister.appraisal.certs import Certificate
from cloister.appraisal.steps import Step, rejected
from cloister.errors import EvidenceRejected

COMPONENTS: Final = 16

# 1.2.840.113741.1.13.1 in DER; members append one arc, all of them below 128.
_ARC: Final = bytes.fromhex("2a864886f84d010d01")
_PPID, _TCB, _PCE_ID, _FMSPC, _SGX_TYPE, _INSTANCE, _CONFIGURATION = (_ARC + bytes([n]) for n in range(1, 8))
_PCESVN: Final = _TCB + b"\x11"
_CPUSVN: Final = _TCB + b"\x12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a PCK certificate says of its platform.

    Attributes:
        ppid: Provisioning id of the processor, 16 bytes.
        components: The sixteen SGX TCB component security versions.
        pcesvn: Security version of the provisioning certification enclave.
        platform_instance_id: 16 bytes; None under the Processor CA.
        dynamic_platform: Whether packages may be added to it later; None where the certificate does not say.
        cached_keys: Whether Intel keeps its root keys; None as above.
        smt_enabled: Whether it runs with simultaneous multithreading; None as above.
    """

    ppid: bytes
    components: bytes
    pcesvn: int
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


def parse_platform(certificate: Certificate) -> Platform:
    """Read the SGX extension of a PCK certificate.

    Raises:
        EvidenceRejected: Step 2; there is none, or it is malformed.
    """
    if certificate.sgx_extension is None:
        raise _malformed()
    try:
        return _platform(_members(der.contents(certificate.sgx_extension, der.SEQUENCE)))
    except (ValueError, KeyError):
        raise _malformed() from None


def _platform(members: dict[bytes, tuple[int, bytes]]) -> Platform:
    tcb = _members(_typed(members, _TCB, der.SEQUENCE))
    components = bytes(der.unsigned(_typed(tcb, _TCB + bytes([n + 1]), der.INTEGER)) for n in range(COMPONENTS))
    _octets(tcb, _CPUSVN, 16)
    flags = _members(_typed(members, _CONFIGURATION, der.SEQUENCE)) if _CONFIGURATION in members else {}
    return Platform(
        ppid=_octets(members, _PPID, 16),
        components=components,
        pcesvn=der.unsigned(_typed(tcb, _PCESVN, der.INTEGER)),
        pce_id=_octets(members, _PCE_ID, 2),
        fmspc=_octets(members, _FMSPC, 6),
        sgx_type=der.unsigned(_typed(members, _SGX_TYPE, der.ENUMERATED)),
        platform_instance_id=_octets(members, _INSTANCE, 16) if _INSTANCE in members else None,
        dynamic_platform=_flag(flags, 1),
        cached_keys=_flag(flags, 2),
        smt_enabled=_flag(flags, 3),
    )


def _members(sequence_contents: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Map object identifiers to tag and contents, refusing duplicates."""
    members: dict[bytes, tuple[int, bytes]] = {}
    for tag, pair in der.elements(sequence_contents):
        (id_tag, identifier), value = der.elements(pair)
        if tag != der.SEQUENCE or id_tag != der.OBJECT_IDENTIFIER or identifier in members:
            raise ValueError("not a sequence of distinct members")
        members[identifier] = value
    return members


def _typed(members: dict[bytes, tuple[int, bytes]], identifier: bytes, tag: int) -> bytes:
    found, inside = members[identifier]
    if found != tag:
        raise ValueError("a member has another type")
    return inside


def _octets(members: dict[bytes, tuple[int, bytes]], identifier: bytes, length: int) -> bytes:
    inside = _typed(members, identifier, der.OCTET_STRING)
    if len(inside) != length:
        raise ValueError("a member has another length")
    return inside


def _flag(flags: dict[bytes, tuple[int, bytes]], arc: int) -> bool | None:
    identifier = _CONFIGURATION + bytes([arc])
    return der.boolean(_typed(flags, identifier, der.BOOLEAN)) if identifier in flags else None


def _malformed() -> EvidenceRejected:
    return rejected(Step.CHAIN, "certificate.malformed", "a PCK certificate's SGX extension is missing or malformed")
