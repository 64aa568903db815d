"""Settings of the verifier: `cloister-verifier --settings FILE`, then `CLOISTER_VERIFIER_<FIELD>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.rpc.identity import TlsFiles
from cloister.rpc.spiffe import check_cluster

_KEY: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Verifier settings.

    Attributes:
        cluster: Trust domain of the mesh.
        listen: host:port.
        ca_certificate: The authority for attested workers; `ca_private_key` is its key, mode 0600.
        signing_key: P-256 key in PEM that Attestation Results are signed with, mode 0600.
        collateral: JSON with the QuoteCollateralV3 names; read again when it changes.
        policy: Appraisal policy, TOML or an envelope that people signed; a newer one that was applied counts in its
            place. Under Intel's root it must have reference values; the built-in default, which has none, does for
            simulated evidence only.
        policy_signers: Ed25519 public keys, in hex, of the people who decide about the policy. Without them nobody need
            sign, and only a simulated mesh has policies applied from afar.
        policy_threshold: How many of them must have signed it.
        anchor_root: DER root certificate that evidence must lead back to; Intel's SGX root if absent. Under any other
            root, evidence counts as simulated and every result says so.
        state_dir: Folder for the record; made with mode 0700 if it is not there.
        challenge_ttl_s: How long a challenge may be answered, a minute at most.
        membership_s: How long an attested worker is a member before it must attest again, an hour at most.
        https_listen: host:port where anybody gets our keys, trust document and evidence; empty for none. Shows the
            certificate of `tls`.
        metrics_listen: host:port of the metrics page, or empty for none.
    """

    cluster: str
    listen: str
    tls: TlsFiles
    ca_certificate: Path
    ca_private_key: Path
    signing_key: Path
    collateral: Path
    policy: Path | None = None
    policy_signers: tuple[str, ...] = ()
    policy_threshold: int = 1
    anchor_root: Path | None = None
    state_dir: Path
    challenge_ttl_s: float = 60.0
    membership_s: float = 3600.0
    https_listen: str = ""
    metrics_listen: str = ""
    log_json: bool = True
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises ValueError or InvalidRequest."""
        check_cluster(self.cluster)
        self._check_signers()
        if not 0 < self.challenge_ttl_s <= 60:
            raise ValueError("challenge_ttl_s must be above 0 and at most 60")
        if not 1 <= self.membership_s <= 3600:
            raise ValueError("membership_s must be 1 to 3600")
        if self.grace_s < 0:
            raise ValueError("grace_s must not be negative")

    def _check_signers(self) -> None:
        keys = self.policy_signers
        if not all(_KEY.fullmatch(key) for key in keys) or len(set(keys)) != len(keys):
            raise ValueError("policy_signers must be Ed25519 public keys, 64 lower-case hex digits each, each once")
        if not 1 <= self.policy_threshold <= max(1, len(keys)):
            raise ValueError("policy_threshold must be at least 1 and at most the number of policy_signers")
        if keys and self.policy is None:
            raise ValueError("policy must name a policy that policy_signers have signed")
