"""Settings of the worker. The file is measured; the host may choose only the fields marked `host_chosen`."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from cloister.errors import InvalidRequest
from cloister.kit.config import host_chosen
from cloister.kit.key_set import KeySigners
from cloister.rpc.address import check_address
from cloister.rpc.identity import TlsFiles
from cloister.rpc.spiffe import SpiffeId, check_cluster
from cloister.seal.hpke import SUITES, XWING
from cloister.seal.names import check_model

MAX_SLOTS = 4096
MAX_BATCH_ROWS = 256
KEY_OVERLAP_S: Final = 660.0
"""Ten minutes, for which a request may be valid, and one for clients to hear of the new key."""
MAX_KEY_OVERLAP_S: Final = 3600.0
MAX_MESSAGE_BYTES: Final = 64 << 20
"""What a sealed answer and a frame add to it must stay below `rpc.channel.MAX_MESSAGE_BYTES`."""
_WANTED: Final = re.compile(r"([^@]{0,80})(?:@(?:([1-9][0-9]{0,18})|newest:([1-9])))?")
_OWNER: Final = re.compile(r"[0-9a-f]{64}")


class WantedModel(NamedTuple):
    """A model to serve.

    Attributes:
        version: 0 is the newest that may be released.
        newest: How many of the newest, side by side; 1 has a newer one take the place of the older.
    """

    name: str
    version: int
    newest: int = 1

    @classmethod
    def parse(cls, text: str) -> WantedModel:
        """Read `name`, `name@version` or `name@newest:count`; raises InvalidRequest."""
        found = _WANTED.fullmatch(text)
        if found is None:
            raise InvalidRequest(f"models: '{text[:80]}' is none of name, name@version, name@newest:2")
        name, version, newest = found.groups()
        wanted = cls(name, int(version or 0), int(newest or 1))
        check_model(wanted.name, wanted.version or 1)
        return wanted

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Worker settings.

    Attributes:
        cluster: Trust domain of the mesh.
        verifier: host:port, as is `provisioner`.
        verifier_id: SPIFFE id of the verifier that evidence is made for; empty for `spiffe://<cluster>/verifier/main`.
        verifier_keys: The verifier's keys; Attestation Results signed by any other key are not ours. A JSON Web Key
            Set, or with `key_signers` a set that they have signed.
        key_signers: Ed25519 public keys, in hex, of those who may say which keys are the verifier's.
        key_threshold: How many of them must.
        models: What to serve, each `name` (the newest version, one at a time), `name@version` or `name@newest:2` (the
            two newest whose files lie in `models_dir`, side by side).
        loadable: Whether an operator may have further models of these owners loaded, and models unloaded.
        memory_bytes: What all models together may be expected to take (see `memory`); 0 for no limit of ours.
        model_owners: Ed25519 public keys, 64 lower-case hex digits each; models of any other owner are refused.
        models_dir: Holds `<name>/<version>/model.sealed`.
        tls: The enrol identity, good for asking to be appraised and for nothing else.
        listen: host:port.
        endpoint: host:port that gateways dial; empty for `listen`.
        hpke_suite: What requests and keys are sealed by: `xwing` or `x25519`.
        key_overlap_s: How long a key that requests are sealed to opens them still once a newer one is attested, and how
            long each serves before one; no request that is on its way may outlast it.
        threads: For inference; 0 lets OpenVINO choose.
        slots: Calls of each model under way at once, of all gateways together; each open link has one at least.
        max_batch_rows: Rows of different requests in one evaluation, where the model lets them share one; 1 for none.
        tenants_apart: Whether requests of different tenants, or of different sealed sessions, never share one.
        max_message_bytes: Largest request that is opened, and largest answer that is given.
    """

    cluster: str
    verifier: str
    provisioner: str
    verifier_keys: Path
    models: tuple[str, ...]
    model_owners: tuple[str, ...]
    models_dir: Path
    tls: TlsFiles
    verifier_id: str = ""
    key_signers: tuple[str, ...] = ()
    key_threshold: int = 1
    listen: str = host_chosen("0.0.0.0:8443")
    endpoint: str = host_chosen("")
    hpke_suite: str = XWING
    key_overlap_s: float = KEY_OVERLAP_S
    threads: int = 0
    slots: int = 16
    max_batch_rows: int = 32
    tenants_apart: bool = False
    max_message_bytes: int = MAX_MESSAGE_BYTES
    loadable: bool = False
    memory_bytes: int = 0
    log_json: bool = True
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises ValueError or InvalidRequest."""
        check_cluster(self.cluster)
        verifier = SpiffeId.parse(self.audience)
        if (verifier.cluster, verifier.role) != (self.cluster, "verifier"):
            raise ValueError("verifier_id is not the SPIFFE id of a verifier of this cluster")
        self.signers  # noqa: B018 - raises for what is none
        _check_wanted(self.wanted, may_be_none=self.loadable)
        if not self.model_owners:
            raise ValueError("model_owners is empty")
        if not all(_OWNER.fullmatch(owner) for owner in self.model_owners):
            raise ValueError("model_owners: a key is not 64 lower-case hex digits")
        _check_addresses(self.listen, self.endpoint)
        if self.hpke_suite not in SUITES:
            raise ValueError(f"hpke_suite must be one of {', '.join(sorted(SUITES))}")
        if not 1 <= self.key_overlap_s <= MAX_KEY_OVERLAP_S:
            raise ValueError(f"key_overlap_s must be 1 to {MAX_KEY_OVERLAP_S:.0f}")
        if self.threads < 0 or not 1 <= self.slots <= MAX_SLOTS:
            raise ValueError(f"threads must not be negative, slots must be 1 to {MAX_SLOTS}")
        if not 1 <= self.max_batch_rows <= MAX_BATCH_ROWS:
            raise ValueError(f"max_batch_rows must be 1 to {MAX_BATCH_ROWS}")
        if not 1 <= self.max_message_bytes <= MAX_MESSAGE_BYTES:
            raise ValueError(f"max_message_bytes must be 1 to {MAX_MESSAGE_BYTES}")
        if self.grace_s < 0 or self.memory_bytes < 0:
            raise ValueError("grace_s and memory_bytes must not be negative")

    @property
    def audience(self) -> str:
        """SPIFFE id of the verifier."""
        return self.verifier_id or f"spiffe://{self.cluster}/verifier/main"

    @property
    def signers(self) -> KeySigners | None:
        """Who may say which keys are the verifier's; None where the keys themselves are pinned."""
        return KeySigners(frozenset(self.key_signers), self.key_threshold) if self.key_signers else None

    @property
    def wanted(self) -> tuple[WantedModel, ...]:
        """The models to serve."""
        return tuple(WantedModel.parse(text) for text in self.models)

    @property
    def owner_keys(self) -> frozenset[bytes]:
        """The public keys of the owners whose models may be served."""
        return frozenset(bytes.fromhex(owner) for owner in self.model_owners)

    def digest(self, trust_roots: bytes, verifier_keys: bytes) -> bytes:
        """SHA-256 of the configuration that evidence speaks for: all but what the host may choose.

        Args:
            trust_roots: PEM of the roots that peers must chain to. The paths of files say nothing and are left out.
            verifier_keys: What the file of that name holds; empty where its signers are pinned in its place.
        """
        said = {
            "cluster": self.cluster,
            "verifier": self.verifier,
            "provisioner": self.provisioner,
            "verifier_id": self.audience,
            "models": self.models,
            "model_owners": sorted(self.model_owners),
            "hpke_suite": self.hpke_suite,
            "key_overlap_s": self.key_overlap_s,
            "threads": self.threads,
            "slots": self.slots,
            "max_batch_rows": self.max_batch_rows,
            "tenants_apart": self.tenants_apart,
            "max_message_bytes": self.max_message_bytes,
            "loadable": self.loadable,
            "memory_bytes": self.memory_bytes,
            "trust_roots": hashlib.sha256(trust_roots).hexdigest(),
            "verifier_keys": hashlib.sha256(verifier_keys).hexdigest(),
            "key_signers": sorted(self.key_signers),
            "key_threshold": self.key_threshold,
        }
        return hashlib.sha256(json.dumps(said, separators=(",", ":"), sort_keys=True).encode()).digest()


def _check_addresses(listen: str, endpoint: str) -> None:
    """The two that the host may choose: one to listen at, and one that gateways are told of."""
    for name, address, any_port in (("listen", listen, True), ("endpoint", endpoint, False)):
        try:
            if address or name == "listen":
                check_address(address, any_port=any_port)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error


def _check_wanted(wanted: tuple[WantedModel, ...], *, may_be_none: bool) -> None:
    if not wanted and not may_be_none:
        raise ValueError("models is empty, and none may be loaded later")
    newest = {model.name for model in wanted if model.version == 0}
    for model in wanted:
        alike = sum((model.name, model.version) == (each.name, each.version) for each in wanted)
        if alike > 1 or (model.version and model.name in newest):
            raise ValueError(f"models: {model.name} is wanted twice")
