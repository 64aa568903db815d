"""Settings of the verifier: `cloister-verifier --settings FILE`, then `CLOISTER_VERIFIER_<FIELD>`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.kit.key_set import KeySigners
from cloister.kit.redis import RedisSettings
from cloister.pcs import Source
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
        signing_key: P-256 key in PEM that Attestation Results are signed with, mode 0600, where others pin that one
            key; else `signing_keys`.
        signing_keys: Folder of the signed key set and its private keys; looked at again while the service runs.
        key_signers: Ed25519 public keys, in hex, of those who may say which keys are the verifier's.
        key_threshold: How many of them must.
        collateral: A collateral bundle, as 'cloister collateral' makes it, or where there are no `collateral_signers`
            also JSON with the QuoteCollateralV3 names; read again when it changes. There must be this, a
            `collateral_url`, or both.
        collateral_signers: Public Ed25519 keys in hex of those who may sign the bundle; `collateral_threshold` of them
            must have.
        collateral_url: Intel's PCS or a PCCS to fetch collateral from, by https; empty for none. What it serves is
            believed by Intel's signatures and dates, not by `collateral_signers`.
        collateral_ca_file: PEM certificates that its TLS certificate must lead back to, instead of the system's.
        collateral_root_crl_url: Where it has the root's revocation list, if not where its kind has it.
        collateral_proxy: `http://host:port` of a proxy that leads there, or empty; the environment's is never used.
        collateral_update: `standard` or `early` TCB evaluation data.
        collateral_refresh_s: How often to ask it, a minute at least and ten days at most.
        policy: Appraisal policy, TOML or an envelope that people signed; a newer one that was applied counts in its
            place. Under Intel's root it must have reference values; the built-in default, which has none, does for
            simulated evidence only.
        policy_signers: Ed25519 public keys, in hex, of the people who decide about the policy. Without them nobody need
            sign, and only a simulated mesh has policies applied from afar.
        policy_threshold: How many of them must have signed it.
        anchor_root: DER root certificate that evidence must lead back to; Intel's SGX root if absent. Under any other
            root, evidence counts as simulated and every result says so.
        lift_signers: Ed25519 public keys, in hex, of those who must sign an order before a revocation is lifted; empty
            takes `policy_signers`, and where there are none either, an operator lifts it alone.
        lift_threshold: How many of `lift_signers` must.
        state_dir: Folder for the record, and for evidence that the two verifiers disagree on; made with mode 0700 if it
            is not there.
        challenge_ttl_s: How long a challenge may be answered, a minute at most.
        membership_s: How long an attested worker is a member before it must attest again, an hour at most.
        https_listen: host:port where anybody gets our keys, trust document and evidence; empty for none. Shows the
            certificate of `tls`.
        appraisal_processes: How many processes judge evidence beside this one, which then holds only what they may not
            see: our keys. One for each CPU if absent; 0 judges on threads, for where a process may start no other.
        redis: Where several verifiers of one cluster share challenges and members. Without it there is one verifier,
            and both are kept on this machine.
        metrics_listen: host:port of the metrics page, or empty for none.
        clock_was_ahead: Start though this machine's clock is before what our record tells of: it was wrong then.
            For one start, and then to be taken out again.
    """

    cluster: str
    listen: str
    tls: TlsFiles
    ca_certificate: Path
    ca_private_key: Path
    signing_key: Path | None = None
    signing_keys: Path | None = None
    key_signers: tuple[str, ...] = ()
    key_threshold: int = 1
    collateral: Path | None = None
    collateral_signers: tuple[str, ...] = ()
    collateral_threshold: int = 1
    collateral_url: str = ""
    collateral_ca_file: Path | None = None
    collateral_root_crl_url: str = ""
    collateral_proxy: str = ""
    collateral_update: str = "standard"
    collateral_refresh_s: float = 6 * 3600.0
    policy: Path | None = None
    policy_signers: tuple[str, ...] = ()
    policy_threshold: int = 1
    anchor_root: Path | None = None
    lift_signers: tuple[str, ...] = ()
    lift_threshold: int = 1
    state_dir: Path
    challenge_ttl_s: float = 60.0
    membership_s: float = 3600.0
    https_listen: str = ""
    appraisal_processes: int | None = None
    redis: RedisSettings | None = None
    metrics_listen: str = ""
    clock_was_ahead: bool = False
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
        if self.appraisal_processes is not None and not 0 <= self.appraisal_processes <= 256:
            raise ValueError("appraisal_processes must be 0 to 256")
        if (self.signing_key is None) == (self.signing_keys is None):
            raise ValueError("either signing_key or signing_keys says what results are signed with")
        if self.signing_keys is not None:
            KeySigners(frozenset(self.key_signers), self.key_threshold)
        if self.lift_signers:
            KeySigners(frozenset(self.lift_signers), self.lift_threshold)
        if self.grace_s < 0:
            raise ValueError("grace_s must not be negative")
        self._check_collateral()

    def _check_signers(self) -> None:
        keys = self.policy_signers
        if not all(_KEY.fullmatch(key) for key in keys) or len(set(keys)) != len(keys):
            raise ValueError("policy_signers must be Ed25519 public keys, 64 lower-case hex digits each, each once")
        if not 1 <= self.policy_threshold <= max(1, len(keys)):
            raise ValueError("policy_threshold must be at least 1 and at most the number of policy_signers")
        if keys and self.policy is None:
            raise ValueError("policy must name a policy that policy_signers have signed")

    @property
    def collateral_source(self) -> Source | None:
        """Where to fetch collateral, if anywhere."""
        if not self.collateral_url:
            return None
        return Source(
            url=self.collateral_url,
            ca_file=self.collateral_ca_file,
            root_crl_url=self.collateral_root_crl_url,
            proxy=self.collateral_proxy,
        )

    def _check_collateral(self) -> None:
        if self.collateral is None and self.collateral_source is None:
            raise ValueError("collateral is missing: name a file, or a collateral_url to fetch it from")
        if not all(_KEY.fullmatch(key) for key in self.collateral_signers):
            raise ValueError("collateral_signers are Ed25519 public keys of 64 lower-case hex digits each")
        if not 1 <= self.collateral_threshold <= max(1, len(set(self.collateral_signers))):
            raise ValueError("collateral_threshold must be 1 to the number of collateral_signers")
        if self.collateral_update not in ("standard", "early"):
            raise ValueError("collateral_update must be standard or early")
        if not 60 <= self.collateral_refresh_s <= 10 * 86400:
            raise ValueError("collateral_refresh_s must be 60 to 864000")
