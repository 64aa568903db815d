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


class EnclaveSet(StrEnum):
    """For whom an enclave is built."""

    HARDENED = "hardened"
    """For production, under SGX."""
    DEBUG = "debug"
    """Under SGX, and open to a debugger of the host: no policy lets it have anything."""
    SIMULATED = "simulated"
    """Under `gramine-direct`, with the simulator's quotes: it protects nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of enclave. Keys of settings are written with dots, as `tls.trust_roots`.

    Attributes:
        name: verifier, say; of the manifest and of the folder that the enclave is built in.
        product: ISVPRODID in the hardened set.
        module: What Python runs; empty where it is no Python program.
        measured: Settings that name files which are measured: a change of theirs is another enclave.
        host: Settings that name files and folders which the host keeps and may change; what is read there is checked by
            what is in it (signatures, chunk tags), and no code is ever loaded from it.
        sealed: Settings that name files and folders in an encrypted mount, under a key that only this signer's enclaves
            of this kind have.
        host_chosen: Environment variables that the host may set.
    """

    name: str
    product: int
    module: str = ""
    measured: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    host_chosen: tuple[str, ...] = ()

    def product_in(self, enclave_set: EnclaveSet) -> int:
        """ISVPRODID in a set."""
        return self.product if enclave_set is EnclaveSet.HARDENED else _DEBUG_PRODUCTS + self.product


_IDENTITY: Final = ("tls.certificate", "tls.private_key")

WORKER: Final = Kind(
    name="worker",
    product=1,
    module="cloister.worker",
    measured=("tls.trust_roots",),
    host=(*_IDENTITY, "verifier_keys", "models_dir"),
    host_chosen=("CLOISTER_WORKER_LISTEN", "CLOISTER_WORKER_ENDPOINT"),
)
VERIFIER: Final = Kind(
    name="verifier",
    product=2,
    module="cloister.verifier",
    measured=("tls.trust_roots", "ca_certificate", "policy", "anchor_root", "collateral_ca_file"),
    host=("tls.certificate", "collateral"),
    sealed=("tls.private_key", "ca_private_key", "signing_key", "signing_keys", "state_dir"),
)
PROVISIONER: Final = Kind(
    name="provisioner",
    product=3,
    module="cloister.provisioner",
    measured=("tls.trust_roots",),
    host=("tls.certificate", "verifier_keys"),
    sealed=("tls.private_key", "root_key", "state_dir"),
)
GATEWAY: Final = Kind(
    name="gateway",
    product=4,
    module="cloister.gateway",
    measured=("tls.trust_roots", "otlp_ca"),
    host=("tls.certificate", "routing", "tenants_file"),
    sealed=("tls.private_key",),
)
REDIS: Final = Kind(name="redis", product=5)

KINDS: Final = MappingProxyType({kind.name: kind for kind in (WORKER, VERIFIER, PROVISIONER, GATEWAY, REDIS)})


def kind_named(name: str) -> Kind:
    """The kind of that name; raises InvalidRequest."""
    try:
        return KINDS[name]
    except KeyError:
        raise InvalidRequest(f"'{name[:40]}' is no kind of enclave; there are {', '.join(KINDS)}") from None
