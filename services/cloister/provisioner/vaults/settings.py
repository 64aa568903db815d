"""Which back end keeps the root key: exactly one, named by its table. No other ever stands in for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_PATH: Final = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
MOST_DEADLINE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFileSettings:
    """`[vault.file]`: a file of 32 random bytes, mode 0600."""

    key_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseSettings:
    """`[vault.passphrase]`: Argon2id of a passphrase in a file, mode 0600.

    The numbers are for a passphrase that is used for the first time, and are kept beside the state with its salt. By
    default they are those that RFC 9106 recommends where memory is short.
    """

    passphrase_file: Path
    memory_mib: int = 64
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        """Check them; raises ValueError."""
        check_cost(memory_mib=self.memory_mib, passes=self.passes, lanes=self.lanes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitSettings:
    """`[vault.transit]`: a key of HashiCorp Vault's Transit engine, or of OpenBao's.

    Attributes:
        address: https://host:port.
        ca_file: The authorities that its certificate may come from, and no others, in PEM.
        key: Name of the key, of type aes256-gcm96.
        mount: Where the engine is mounted.
        namespace: Empty for none.
        token_file: A token, mode 0600; read again when Vault does not take it any more. This, or one of the two below.
        app_role: RoleID of an AppRole, whose SecretID is in `secret_id_file`, mode 0600.
        kubernetes_role: A role of Vault's Kubernetes method, for the service account's token in `jwt_file`.
        login_mount: Where that method is mounted; empty for its own name.
        deadline_s: Within which each call must be answered.
    """

    address: str
    ca_file: Path
    key: str
    mount: str = "transit"
    namespace: str = ""
    token_file: Path | None = None
    app_role: str = ""
    secret_id_file: Path | None = None
    kubernetes_role: str = ""
    jwt_file: Path | None = None
    login_mount: str = ""
    deadline_s: float = 3.0

    def __post_init__(self) -> None:
        """Check them; raises ValueError."""
        address = urlsplit(self.address)
        if address.scheme != "https" or not address.hostname or address.path.strip("/") or address.query:
            raise ValueError("address must be https://host:port, and nothing behind it")
        if not _NAME.fullmatch(self.key):
            raise ValueError("key must be the name of a Transit key")
        for name, value in (("mount", self.mount), ("login_mount", self.login_mount), ("namespace", self.namespace)):
            if (value or name == "mount") and not _PATH.fullmatch(value.strip("/")):
                raise ValueError(f"{name} must be a path such as team/transit")
        methods = (self.token_file is not None, bool(self.app_role), bool(self.kubernetes_role))
        if sum(methods) != 1:
            raise ValueError("name one way to log in: token_file, app_role or kubernetes_role")
        if bool(self.app_role) != (self.secret_id_file is not None):
            raise ValueError("app_role and secret_id_file belong together")
        if bool(self.kubernetes_role) != (self.jwt_file is not None):
            raise ValueError("kubernetes_role and jwt_file belong together")
        _check_deadline(self.deadline_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Settings:
    """`[vault.pkcs11]`: an AES-256 key in a PKCS#11 token, which it never leaves.

    Attributes:
        module: The vendor's library.
        token: Label of the token.
        serial: Its serial number, where several have that label.
        key: Label of the key.
        pin_file: Holds the PIN, mode 0600.
        deadline_s: Within which each call must be answered.
    """

    module: Path
    token: str
    serial: str = ""
    key: str
    pin_file: Path
    deadline_s: float = 3.0

    def __post_init__(self) -> None:
        """Check them; raises ValueError."""
        if not self.token or not self.key:
            raise ValueError("token and key are the labels of a token and of a key in it")
        _check_deadline(self.deadline_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class GramineSettings:
    """`[vault.gramine]`: the CPU's sealing key, in an enclave.

    Attributes:
        bound_to: `mrsigner`: enclaves of this signer and kind have it; `mrenclave`: this enclave, and no later build.
    """

    bound_to: str

    def __post_init__(self) -> None:
        """Check it; raises ValueError."""
        if self.bound_to not in ("mrsigner", "mrenclave"):
            raise ValueError("bound_to must be mrsigner or mrenclave")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSettings:
    """One root key; exactly one of these."""

    file: KeyFileSettings | None = None
    passphrase: PassphraseSettings | None = None
    transit: TransitSettings | None = None
    pkcs11: Pkcs11Settings | None = None
    gramine: GramineSettings | None = None

    def __post_init__(self) -> None:
        """Check that there is one; raises ValueError."""
        if len(self._named()) != 1:
            known = ", ".join(f"vault.{field.name}" for field in fields(self))
            raise ValueError(f"one table names where the root key is, of {known}; there are {len(self._named())}")

    @property
    def back_end(self) -> str:
        """The name of its table."""
        return self._named()[0]

    def _named(self) -> list[str]:
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


def check_cost(*, memory_mib: int, passes: int, lanes: int) -> None:
    """Check what Argon2id is to cost: not so little that guessing is cheap, nor more than a machine has.

    Raises:
        ValueError: One is out of its bounds.
    """
    if not 8 <= memory_mib <= 4096:
        raise ValueError("memory_mib must be 8 to 4096")
    if not 1 <= passes <= 64:
        raise ValueError("passes must be 1 to 64")
    if not 1 <= lanes <= 16:
        raise ValueError("lanes must be 1 to 16")


def _check_deadline(deadline_s: float) -> None:
    if not 0.1 <= deadline_s <= MOST_DEADLINE_S:
        raise ValueError(f"deadline_s must be 0.1 to {MOST_DEADLINE_S:.0f}")
