"""What a verifier judges by and signs with, opened: whose quotes it believes, the policy in force, and its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloister.appraisal.anchors import INTEL_SGX, TrustAnchor
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.key_set import KeySigners
from cloister.kit.log import get_logger
from cloister.kit.state_folder import private_folder
from cloister.rpc.identity import TlsIdentity
from cloister.verifier.mesh_ca import MeshCa
from cloister.verifier.policy_in_force import PolicyInForce, Signers
from cloister.verifier.settings import Settings
from cloister.verifier.signing_keys import KeyRing, PinnedKey, SigningKeys

SIMULATED_ANCHOR: Final = "simulated"
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Grounds:
    """What an appraisal stands on.

    Attributes:
        anchor: Of the quotes that are believed.
        policies: Have the policy in force.
        ca: Signs certificates of members.
        identity: Our own in the mesh.
        signing_keys: For Attestation Results.
    """

    anchor: TrustAnchor
    signers: Signers
    policies: PolicyInForce
    ca: MeshCa
    identity: TlsIdentity
    signing_keys: SigningKeys

    def say_what_counts(self) -> None:
        """Have the service's log say under which policy it judges, and what that leaves open."""
        policy = self.policies.current()
        _log.info("policy.in_force", policy_id=policy.policy_id, version=policy.version, digest=policy.digest.hex())
        if self.anchor.simulated:
            _log.warning("anchor.simulated", anchor=self.anchor.name, meaning="results say nothing about hardware")
        elif not self.signers.keys:
            _log.warning("policy.unsigned", meaning="whoever can write the policy's file decides what is believed")
        if not policy.pins_code:
            _log.warning("policy.unpinned", policy_id=policy.policy_id, meaning="results say nothing about code")


@asynccontextmanager
async def opened_grounds(settings: Settings) -> AsyncIterator[Grounds]:
    """Open them, until the block ends; the folder of the state is made when all of them are good.

    Raises:
        NotReady: A file is missing, not what it should be, or open to others, or the policy names no code; the message
            says which.
    """
    anchor = trust_anchor(settings.anchor_root)
    signers = Signers(keys=settings.policy_signers, threshold=settings.policy_threshold)
    policies = PolicyInForce.opened(settings.policy, signers=signers, anchor=anchor, folder=settings.state_dir)
    ca = MeshCa.opened(settings.ca_certificate, settings.ca_private_key, cluster=settings.cluster)
    async with TlsIdentity.watching(settings.tls) as identity:
        signing_keys = _opened_keys(settings, issuer=str(identity.spiffe_id))
        private_folder(settings.state_dir)
        policies.remember()
        yield Grounds(anchor, signers, policies, ca, identity, signing_keys)


def trust_anchor(root: Path | None) -> TrustAnchor:
    """Intel's SGX root, or the one in a file, which is simulated unless it is Intel's after all.

    Raises:
        NotReady: The file is not the root certificate of a trust anchor.
    """
    if root is None:
        return INTEL_SGX
    try:
        root_der = root.read_bytes()
        if root_der == INTEL_SGX.root_der:
            return INTEL_SGX
        return TrustAnchor(SIMULATED_ANCHOR, root_der)
    except OSError as error:
        raise NotReady(f"anchor_root {root} cannot be read: {error.strerror}", reason="anchor.refused") from error
    except InvalidRequest as error:
        raise NotReady(f"anchor_root {root}: {error}", reason="anchor.refused") from error


def utc_now() -> datetime:
    """The present, aware."""
    return datetime.now(UTC)


def _opened_keys(settings: Settings, *, issuer: str) -> SigningKeys:
    """What results are signed with: the one key that others pin, or a ring that they follow."""
    if settings.signing_key is not None:
        return PinnedKey.opened(settings.signing_key)
    assert settings.signing_keys is not None  # the settings have one or the other
    signers = KeySigners(frozenset(settings.key_signers), settings.key_threshold)
    return KeyRing(settings.signing_keys, signers, issuer=issuer, now=utc_now)
