"""A key that signs enclaves inside a PKCS#11 token, which it never leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from cloister.enclave.signers import Signer, check_key
from cloister.enclave.token_uri import TokenUri
from cloister.errors import CloisterError, NotFound, NotReady
from cloister.rpc.files import read_private


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """See `Signer`; as long as the session with the token is open."""

    modulus: int
    _key: pkcs11.SignMixin = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """See `Signer`; the token hashes and pads by itself."""
        return bytes(self._key.sign(message, mechanism=Mechanism.SHA256_RSA_PKCS))


@contextmanager
def opened(uri: str) -> Iterator[Signer]:
    """The key that a URI names, in a session that ends with the context.

    Raises:
        InvalidRequest: The URI is none, or the key is not one that SGX takes.
        NotFound: There is no such token or key, or more than one.
        NotReady: The token's library cannot be loaded, or the token does not let us in or does not sign.
    """
    where = TokenUri.parse(uri)
    pin = read_private(where.pin_file).decode().strip()
    try:
        with _token(where).open(user_pin=pin) as session:
            yield _signer(session, where)
    except pkcs11.PKCS11Error as error:
        raise _refused(error, where) from error


def _token(where: TokenUri) -> pkcs11.Token:
    try:
        module = pkcs11.lib(str(where.module))
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise NotReady(f"{where.module} is no PKCS#11 library that loads here", reason="token.unusable") from error
    serial = where.serial.encode() or None
    found = list(module.get_tokens(token_label=where.token, token_serial=serial))
    if len(found) != 1:
        raise NotFound(f"{len(found)} tokens are called '{where.token}'; a serial tells them apart")
    return found[0]


def _signer(session: pkcs11.Session, where: TokenUri) -> TokenSigner:
    wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: KeyType.RSA}
    if where.object:
        wanted[Attribute.LABEL] = where.object
    if where.id:
        wanted[Attribute.ID] = where.id
    found = list(session.get_objects(wanted))
    if len(found) != 1 or not isinstance(found[0], pkcs11.SignMixin):
        raise NotFound(f"{len(found)} private RSA keys of token '{where.token}' are called so; an id tells them apart")
    key = found[0]
    modulus, exponent = (int.from_bytes(key[name], "big") for name in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT))
    check_key(RSAPublicNumbers(exponent, modulus), f"'{where.object or where.id.hex()}' in token '{where.token}'")
    return TokenSigner(modulus, key)


def _refused(error: pkcs11.PKCS11Error, where: TokenUri) -> CloisterError:
    if isinstance(error, pkcs11.PinIncorrect | pkcs11.PinLocked | pkcs11.PinInvalid | pkcs11.PinLenRange):
        return NotReady(f"token '{where.token}' does not take the PIN in {where.pin_file}", reason="token.locked")
    return NotReady(f"token '{where.token}' does not sign: {type(error).__name__}", reason="token.unusable")
