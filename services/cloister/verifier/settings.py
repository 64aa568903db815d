"""Settings of the verifier: `cloister-verifier --settings FILE`, then `CLOISTER_VERIFIER_<FIELD>`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloister.rpc.identity import TlsFiles
from cloister.rpc.spiffe import check_cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Verifier settings.

    Attributes:
        cluster: Trust domain of the mesh.
        listen: host:port.
        ca_certificate: The authority for attested workers; `ca_private_key` is its key, mode 0600.
        signing_key: P-256 key in PEM that Attestation Results are signed with, mode 0600.
        collateral: JSON with the QuoteCollateralV3 names; read again when it changes.
        policy: Appraisal policy in TOML. Under Intel's root it must have reference values; the built-in default, which
            has none, does for simulated evidence only.
        anchor_root: DER root certificate that evidence must lead back to; Intel's SGX root if absent. Under any other
            root, evidence counts as simulated and every result says so.
        state_dir: Folder for the record; made with mode 0700 if it is not there.
        challenge_ttl_s: How long a challenge may be answered, a minute at most.
        membership_s: How long an attested worker is a member before it must attest again, an hour at most.
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
    anchor_root: Path | None = None
    state_dir: Path
    challenge_ttl_s: float = 60.0
    membership_s: float = 3600.0
    metrics_listen: str = ""
    log_json: bool = True
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        """Check what can be checked without opening anything; raises ValueError or InvalidRequest."""
        check_cluster(self.cluster)
        if not 0 < self.challenge_ttl_s <= 60:
            raise ValueError("challenge_ttl_s must be above 0 and at most 60")
        if not 1 <= self.membership_s <= 3600:
            raise ValueError("membership_s must be 1 to 3600")
        if self.grace_s < 0:
            raise ValueError("grace_s must not be negative")
