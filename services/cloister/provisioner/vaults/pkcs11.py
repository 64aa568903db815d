"""The root key is an AES-256 key in a PKCS#11 token, and cannot leave it.

One session, one call at a time. A session that is gone is opened anew, once for each call. A PIN that was refused is
not tried again until its file says another: tokens lock themselves after a few.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from cloister.errors import CloisterError, NotReady, SealBroken, Unavailable
from cloister.kit.log import get_logger
from cloister.provisioner.vaults.enveloped import EnvelopedVault
from cloister.provisioner.vaults.guard import Guard
from cloister.provisioner.vaults.root_key import NONCE_BYTES, TAG_BYTES
from cloister.provisioner.vaults.settings import Pkcs11Settings
from cloister.provisioner.vaults.vault import REFUSED, UNAVAILABLE
from cloister.rpc.files import read_private
from cloister.seal.keys import Secret

_AES_256_BYTES: Final = 32
_PIN_REFUSED: Final = (pkcs11.PinIncorrect, pkcs11.PinLocked, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinExpired)
_BROKEN: Final = (pkcs11.EncryptedDataInvalid, pkcs11.EncryptedDataLenRange)
_log = get_logger()


class TokenKey:
    """The key in the token; see `KeyKeeper`. Blocking and thread safe.

    Args:
        settings: Say where it is.

    Raises:
        NotReady: There is no such token or key, it is none that we can use, or it does not let us in (`vault.refused`).
        Unavailable: The token is not there, or does not work (`vault.unavailable`).
    """

    def __init__(self, settings: Pkcs11Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._refused_pin: Secret | None = None
        self._session: pkcs11.Session | None = None
        self._key: Any = None
        self._key_id = ""
        with self._lock:
            self._key_id = self._opened()

    def key_id(self) -> str:
        """See `KeyKeeper`."""
        return self._key_id

    def wrap_key(self, key: Secret, aad: bytes) -> bytes:
        """See `KeyKeeper`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._with_key("encrypt", key.reveal(), nonce, aad)

    def unwrap_key(self, wrapped: bytes, aad: bytes) -> Secret:
        """See `KeyKeeper`."""
        if len(wrapped) < NONCE_BYTES + TAG_BYTES:
            raise SealBroken
        return Secret(self._with_key("decrypt", wrapped[NONCE_BYTES:], wrapped[:NONCE_BYTES], aad))

    def _with_key(self, operation: str, data: bytes, nonce: bytes, aad: bytes) -> bytes:
        with self._lock:
            for last in (False, True):
                try:
                    self._check_open()
                    return self._done(operation, data, nonce, aad)
                except _BROKEN:
                    raise SealBroken from None
                except (pkcs11.PKCS11Error, RuntimeError) as error:
                    if last and operation == "decrypt" and self._works():
                        raise SealBroken from None
                    self._close()
                    if last:
                        raise _down(error) from error
        raise AssertionError("the second time returns or raises")

    def _done(self, operation: str, data: bytes, nonce: bytes, aad: bytes) -> bytes:
        params = pkcs11.GCMParams(nonce, aad, TAG_BYTES * 8)
        return bytes(getattr(self._key, operation)(data, mechanism=Mechanism.AES_GCM, mechanism_param=params))

    def _works(self) -> bool:
        """Whether it opens what it has just wrapped: some tokens have no word of their own for what is not theirs."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        try:
            return self._done("decrypt", self._done("encrypt", b"probe", nonce, b""), nonce, b"") == b"probe"
        except (pkcs11.PKCS11Error, RuntimeError):
            return False

    def _check_open(self) -> None:
        if self._session is None and self._opened() != self._key_id:
            self._close()
            raise _refused("it is another token, or another key, than at the start")

    def _opened(self) -> str:
        """Open a session and find the key in it; returns the key's name."""
        self._close()
        try:
            token = self._token()
            self._session = self._logged_in(token)
            self._key = self._found(self._session)
            identity = bytes(self._key[Attribute.ID]).hex()
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            self._close()
            raise _down(error) from error
        except CloisterError:
            self._close()
            raise
        return f"pkcs11:{token.serial.decode('ascii', 'replace').strip()}:{identity}"

    def _token(self) -> pkcs11.Token:
        where = self._settings
        try:
            module = pkcs11.lib(str(where.module))
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise _refused(f"{where.module} is no PKCS#11 library that loads here") from error
        found = list(module.get_tokens(token_label=where.token, token_serial=where.serial.encode() or None))
        if not found:
            raise Unavailable(f"the token '{where.token}' is not there", reason=UNAVAILABLE)
        if len(found) > 1:
            raise _refused(f"{len(found)} tokens are called '{where.token}': 'serial' tells them apart")
        return found[0]

    def _logged_in(self, token: pkcs11.Token) -> pkcs11.Session:
        pin = Secret(read_private(self._settings.pin_file).strip())
        if pin == self._refused_pin:
            raise _refused(f"the token did not take the PIN in {self._settings.pin_file}, and is not asked again")
        try:
            return token.open(user_pin=pin.reveal().decode("utf-8", "replace"))
        except pkcs11.UserAlreadyLoggedIn:  # a session of this process has
            return token.open()
        except _PIN_REFUSED as error:
            self._refused_pin = pin
            raise _refused(f"the token does not take the PIN in {self._settings.pin_file}") from error

    def _found(self, session: pkcs11.Session) -> Any:
        label = self._settings.key
        wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.LABEL: label}
        found: list[Any] = list(session.get_objects(wanted))
        if len(found) != 1:
            raise _refused(f"{len(found)} AES keys of the token are called '{label}', and it must be one")
        key = found[0]
        if key[Attribute.VALUE_LEN] != _AES_256_BYTES:
            raise _refused(f"the key '{label}' is not of 256 bits")
        if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
            raise _refused(f"the key '{label}' can be taken out of the token; make one that cannot")
        if not bytes(key[Attribute.ID]):
            raise _refused(f"the key '{label}' has no id, by which another one would be known for another")
        return key

    def _close(self) -> None:
        session, self._session, self._key = self._session, None, None
        if session is not None:
            try:
                session.close()
            except (pkcs11.PKCS11Error, RuntimeError):  # it is gone: that is why
                _log.info("vault.session_lost", back_end="pkcs11")


def open_pkcs11(settings: Pkcs11Settings) -> EnvelopedVault:
    """The key in the token; raises as `TokenKey`."""
    guard = Guard("pkcs11", deadline_s=settings.deadline_s, most_calls=1)
    return EnvelopedVault(guard.call(lambda: TokenKey(settings)), guard)


def _refused(what: str) -> NotReady:
    return NotReady(f"the vault (pkcs11) cannot be used: {what}", reason=REFUSED)


def _down(error: Exception) -> Unavailable:
    return Unavailable(f"the token does not work now ({type(error).__name__})", reason=UNAVAILABLE)
