"""Settings of the key provisioner: `cloister-provisioner --settings FILE`, then `CLOISTER_PROVISIONER_<FIELD>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.kit.key_set import KeySigners
from cloister.provisioner.models.epoch_terms import DAY_S, EpochTerms
from cloister.provisioner.releases.following import Verifier
from cloister.provisioner.vaults.settings import VaultSettings
from cloister.rpc.address import check_address
from cloister.rpc.identity import TlsFiles
from cloister.rpc.spiffe import SpiffeId, check_cluster
from cloister.seal.hpke import XWING

_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Provisioner settings.

    Attributes:
        cluster: Trust domain of the mesh.
        listen: host:port.
        owner_listen: host:port for owners, operators and auditors; `listen` then answers workers only. Empty for one
            address for all.
        state_dir: Folder for the model store and the record; made with mode 0700 if it is not there.
        vault: Where the root key is that model keys are wrapped under (docs/guides/vault.md).
        next_vault: Where the one is that `rotate-root` goes over to; it need not be there before that.
        verifier: host:port of the verifier, to follow what it revokes and which keys it signs with. Empty for neither:
            then a result counts for the five minutes of its life whatever happens, and new keys come by the file only.
        witnesses: host:port of each verifier that countersigns the record, where there are several; a majority of them
            must. If empty, `verifier` does.
        silence_s: How long without a sign of life from the verifier keys are still released.
        verifier_keys: The verifier's keys; read again when the file changes.
        key_signers: Ed25519 public keys, in hex, of those who may say which keys are the verifier's; `verifier_keys` is
            then a set that they have signed.
        key_threshold: How many of them must.
        verifier_thumbprints: Without key signers, RFC 7638 thumbprints of the keys that count in `verifier_keys`, a
            plain JSON Web Key Set; a new key is named here before it is used.
        verifier_id: SPIFFE id of the verifier whose results are believed.
        releases_per_minute: How often one worker may ask; a platform may ask ten times as often.
        metrics_listen: host:port of the metrics page, or empty for none.
        epoch_s: How long jobs are sealed to one key of a model before the next one begins.
        job_life_s: The longest that a job may wait for its answer; a key is destroyed so long after the last was sealed
            to it.
        epoch_suite: Of those keys: `xwing` or `x25519`.
        clock_was_ahead: Start though this machine's clock is before what our record tells of: it was wrong then.
            For one start, and then to be taken out again.
    """

    cluster: str
    listen: str
    tls: TlsFiles
    state_dir: Path
    vault: VaultSettings
    verifier_keys: Path
    verifier_id: str
    owner_listen: str = ""
    next_vault: VaultSettings | None = None
    verifier_thumbprints: tuple[str, ...] = ()
    key_signers: tuple[str, ...] = ()
    key_threshold: int = 1
    verifier: str = ""
    witnesses: tuple[str, ...] = ()
    silence_s: float = 10.0
    releases_per_minute: int = 120
    epoch_s: int = DAY_S
    job_life_s: int = DAY_S
    epoch_suite: str = XWING
    metrics_listen: str = ""
    clock_was_ahead: bool = False
    log_json: bool = True
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises ValueError or InvalidRequest."""
        check_cluster(self.cluster)
        verifier = SpiffeId.parse(self.verifier_id)
        if (verifier.cluster, verifier.role) != (self.cluster, "verifier"):
            raise ValueError("verifier_id is not the SPIFFE id of a verifier of this cluster")
        if bool(self.verifier_thumbprints) == bool(self.key_signers):
            raise ValueError("either verifier_thumbprints or key_signers says which of the verifier's keys count")
        if self.key_signers:
            KeySigners(frozenset(self.key_signers), self.key_threshold)
        if self.silence_s < 2:
            raise ValueError("silence_s must be 2 or more: the verifier says each second that it is there")
        if not all(_THUMBPRINT.fullmatch(each) for each in self.verifier_thumbprints):
            raise ValueError("verifier_thumbprints: one is not a SHA-256 thumbprint, 43 characters of base64url")
        if len(set(self.witnesses)) != len(self.witnesses):
            raise ValueError("witnesses must be different verifiers")
        for address in self.witnesses:
            check_address(address)
        if self.releases_per_minute < 1:
            raise ValueError("releases_per_minute must be 1 or more")
        if self.grace_s < 0:
            raise ValueError("grace_s must not be negative")
        self.epoch_terms  # noqa: B018 - raises for what are none

    @property
    def followed(self) -> Verifier:
        """The verifier whose results are believed."""
        signers = KeySigners(frozenset(self.key_signers), self.key_threshold) if self.key_signers else None
        return Verifier(
            spiffe_id=SpiffeId.parse(self.verifier_id),
            address=self.verifier,
            silence_s=self.silence_s,
            keys=self.verifier_keys,
            thumbprints=self.verifier_thumbprints,
            key_signers=signers,
        )

    @property
    def witness_addresses(self) -> tuple[str, ...]:
        """Who countersigns the record; empty for nobody."""
        return self.witnesses or ((self.verifier,) if self.verifier else ())

    @property
    def epoch_terms(self) -> EpochTerms:
        """What epochs are like."""
        return EpochTerms(suite=self.epoch_suite, epoch_s=self.epoch_s, job_life_s=self.job_life_s)
