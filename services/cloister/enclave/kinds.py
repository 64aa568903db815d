"""What runs in enclaves: five kinds, and three sets that cannot be confused.

A hardened and a debug enclave of one kind differ in signer, product id and label, a simulated one is never signed for
SGX. So no reference value, policy or sealing key of one set is ever good for another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cloister.errors import InvalidRequest

_DEBUG_PRODUCTS: Final = 100
IMPORTING: Final = "cloister.kit.state_import"
"""What Python runs, in place of a service, to bring its secrets in."""
IMPORTER: Final = "-import"
"""How the name ends of what brings secrets in."""
INSIDE: Final = "/cloister"
"""Where in an enclave the folders lie that `Place` names, and `ROOT`."""
ROOT: Final = "root"
"""The program: a Python prefix, or redis-server. Also where it lies in the folder that an enclave is built in."""


class EnclaveSet(StrEnum):
    """For whom an enclave is built."""

    HARDENED = "hardened"
    """For production, under SGX."""
    DEBUG = "debug"
    """Under SGX, and open to a debugger of the host: no policy lets it have anything."""
    SIMULATED = "simulated"
    """Under `gramine-direct`, with the simulator's quotes: it protects nothing."""


class Place(StrEnum):
    """Where a file that the settings name lies for an enclave: the name of a folder below `INSIDE`."""

    MEASURED = "mesh"
    HOST = "host"
    SEALED = "sealed"
    STATE = "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of enclave. Keys of settings are written with dots, as `tls.trust_roots`.

    Attributes:
        name: verifier, say; of the manifest and of the folder that the enclave is built in.
        product: ISVPRODID in the hardened set.
        module: What Python runs; empty where it is no Python program.
        simulated_module: What it runs in the simulated set, where that is another program.
        measured: Settings that name files which are measured: a change of theirs is another enclave.
        host: Settings that name files and folders which the host keeps and may change; what is read there is checked by
            what is in it (signatures, chunk tags), and no code is ever loaded from it.
        sealed: Settings that name secrets: they are brought into an encrypted mount, under a key that only this
            signer's enclaves of this kind have, on this CPU as it is.
        state: Settings that name a folder which the service itself fills: in an encrypted mount under a key that is one
            of the secrets; Redis, which cannot set one, has it under the key of `sealed`.
        quotes: Whether it asks for quotes of its own.
        signed: Of the host's, those that are measured after all where the settings name no `key_signers`, whose
            signatures would say what may be in them.
        with_folder: Of the host's, files that name others beside them: the enclave sees their whole folder.
        host_chosen: Environment variables that the host may set.
        left_out: Tables of its settings that it does without in an enclave.
        outside: Tables that ask for what no enclave carries: settings that have one are refused.
    """

    name: str
    product: int
    module: str = ""
    simulated_module: str = ""
    measured: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    quotes: bool = False
    signed: tuple[str, ...] = ()
    with_folder: tuple[str, ...] = ()
    host_chosen: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def importer(self) -> str:
        """The name of the enclave that brings this one's secrets in, if it has any."""
        return f"{self.name}{IMPORTER}"

    def product_in(self, enclave_set: EnclaveSet) -> int:
        """ISVPRODID in a set."""
        return self.product if enclave_set is EnclaveSet.HARDENED else _DEBUG_PRODUCTS + self.product

    def module_in(self, enclave_set: EnclaveSet) -> str:
        """What Python runs in a set."""
        return self.simulated_module if self.simulated_module and enclave_set is EnclaveSet.SIMULATED else self.module

    def place_of(self, name: str, *, key_signers: bool) -> Place:
        """Where the file that a setting names lies.

        Args:
            name: The setting's key.
            key_signers: Whether the settings name any.

        Raises:
            InvalidRequest: No list says (`setting.unplaced`).
        """
        if name in self.signed and not key_signers:
            return Place.MEASURED
        lists = (self.measured, self.host, self.sealed, self.state)
        for place, names in zip(Place, lists, strict=True):
            if name in names:
                return place
        raise InvalidRequest(
            f"{name} names a file, and nothing says where it lies for a {self.name} in an enclave",
            reason="setting.unplaced",
        )


_IDENTITY: Final = ("tls.certificate", "tls.private_key")

WORKER: Final = Kind(
    name="worker",
    product=1,
    module="cloister.worker",
    measured=("tls.trust_roots",),
    host=(*_IDENTITY, "verifier_keys", "models_dir"),
    quotes=True,
    signed=("verifier_keys",),
    host_chosen=("CLOISTER_WORKER_LISTEN", "CLOISTER_WORKER_ENDPOINT"),
)
VERIFIER: Final = Kind(
    name="verifier",
    product=2,
    module="cloister.verifier",
    simulated_module="cloister_simulator.enclave_verifier",
    measured=(
        "tls.trust_roots",
        "ca_certificate",
        "policy",
        "anchor_root",
        "collateral_ca_file",
        "redis.trust_roots",
    ),
    host=("tls.certificate", "collateral", "redis.certificate"),
    sealed=(
        "tls.private_key",
        "ca_private_key",
        "signing_key",
        "signing_keys",
        "redis.private_key",
        "redis.password_file",
        "redis.shared_key",
        "redis.sentinel_password_file",
    ),
    state=("state_dir",),
    quotes=True,
)
PROVISIONER: Final = Kind(
    name="provisioner",
    product=3,
    module="cloister.provisioner",
    measured=("tls.trust_roots",),
    host=("tls.certificate", "verifier_keys"),
    sealed=(
        "tls.private_key",
        "vault.file.key_file",
        "vault.passphrase.passphrase_file",
        "next_vault.file.key_file",
        "next_vault.passphrase.passphrase_file",
    ),
    state=("state_dir",),
    outside=("vault.transit", "vault.pkcs11", "next_vault.transit", "next_vault.pkcs11"),
)
GATEWAY: Final = Kind(
    name="gateway",
    product=4,
    module="cloister.gateway",
    measured=("tls.trust_roots", "otlp_ca"),
    host=("tls.certificate", "routing", "tenants_file", "otlp_certificate"),
    sealed=("tls.private_key", "otlp_private_key"),
    with_folder=("tenants_file",),
    # Jobs are given to workers by a process of its own, and an enclave is one; a gateway outside reads no more of them.
    left_out=("redis", "jobs"),
)
REDIS: Final = Kind(
    name="redis",
    product=5,
    measured=("tls-ca-cert-file", "aclfile"),
    # Its key opens nothing: what is kept in Redis is sealed by those who keep it there.
    host=("tls-cert-file", "tls-key-file"),
    state=("dir",),
)

KINDS: Final = MappingProxyType({kind.name: kind for kind in (WORKER, VERIFIER, PROVISIONER, GATEWAY, REDIS)})


def kind_named(name: str) -> Kind:
    """The kind of that name; raises InvalidRequest."""
    try:
        return KINDS[name]
    except KeyError:
        raise InvalidRequest(f"'{name[:40]}' is no kind of enclave; there are {', '.join(KINDS)}") from None
