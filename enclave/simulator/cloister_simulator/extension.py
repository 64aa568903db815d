"""The Intel SGX extensions of a PCK certificate, in DER.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification, OID 1.2.840.113741.1.13.1: a
SEQUENCE of (OID, value) pairs, some of whose values are such sequences again.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.x509 import ObjectIdentifier

from cloister_simulator.recipe import Recipe

SGX_EXTENSIONS = ObjectIdentifier("1.2.840.113741.1.13.1")

_BOOLEAN, _INTEGER, _OCTET_STRING, _OID, _ENUMERATED, _SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0A, 0x30


def sgx_extensions(recipe: Recipe) -> bytes:
    """The extension's value for the processor `recipe` describes."""
    return _pairs(
        (),
        [
            (1, _octets(recipe.ppid)),
            (2, _tcb(recipe)),
            (3, _octets(recipe.pceid)),
            (4, _octets(recipe.fmspc)),
            (5, _der(_ENUMERATED, _magnitude(recipe.sgx_type))),
            (6, _octets(recipe.platform_instance_id)),
            (7, _configuration(recipe)),
        ],
    )


def cpusvn(recipe: Recipe) -> bytes:
    """CPUSVN, 16 bytes: here simply the TCB components, one byte each."""
    return recipe.cpusvn if recipe.cpusvn is not None else bytes(recipe.tcb_components)


def _tcb(recipe: Recipe) -> bytes:
    svns = [*recipe.tcb_components, recipe.pcesvn]
    members = [(index, _der(_INTEGER, _magnitude(svn))) for index, svn in enumerate(svns, start=1)]
    return _pairs((2,), [*members, (18, _octets(cpusvn(recipe)))])


def _configuration(recipe: Recipe) -> bytes:
    flags = (recipe.dynamic_platform, recipe.cached_keys, recipe.smt_enabled)
    return _pairs((7,), [(index, _boolean(flag)) for index, flag in enumerate(flags, start=1)])


def _pairs(arc: tuple[int, ...], members: Sequence[tuple[int, bytes]]) -> bytes:
    """A SEQUENCE of SEQUENCE {OID of the member, value}; `arc` is appended to the extension's own OID."""
    return _der(_SEQUENCE, b"".join(_der(_SEQUENCE, _oid((*arc, last)) + value) for last, value in members))


def _oid(tail: Sequence[int]) -> bytes:
    first, second, *rest = (int(arc) for arc in SGX_EXTENSIONS.dotted_string.split("."))
    return _der(_OID, bytes([40 * first + second]) + b"".join(_base128(arc) for arc in [*rest, *tail]))


def _base128(arc: int) -> bytes:
    """One arc of an object identifier: seven bits a byte, the high bit set on all but the last (X.690, 8.19)."""
    groups = [arc & 0x7F]
    while arc := arc >> 7:
        groups.append(0x80 | arc & 0x7F)
    return bytes(reversed(groups))


def _octets(value: bytes) -> bytes:
    return _der(_OCTET_STRING, value)


def _boolean(value: bool) -> bytes:
    return _der(_BOOLEAN, b"\xff" if value else b"\x00")


def _magnitude(value: int) -> bytes:
    """A non-negative integer in as few bytes as leave its sign bit clear (X.690, 8.3)."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
