"""What an owner says of who may have a model's key, and the policy that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloister.api.v1.provisioner_pb2 import ModelSummary, Platforms, ReleasePolicy, SignerRule

LEASE_S: Final = 3600
TCB_STATUSES: Final[Sequence[str]] = ("UpToDate", "SWHardeningNeeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTerms:
    """As the arguments of `OwnerClient.allow`, which says what each of them is."""

    mrenclave: Sequence[str] = ()
    td_measurement: Sequence[str] = ()
    signers: Sequence[SignerRule] = ()
    tcb_statuses: Sequence[str] = TCB_STATUSES
    simulated: bool = False
    plain: bool = False
    lease_s: int = LEASE_S
    min_model_version: int | None = None
    platforms: Sequence[str] | None = None
    releases_per_hour: int = 0

    def policy(self, model: str, cluster: str, known: Sequence[ModelSummary]) -> ReleasePolicy:
        """The policy that follows the one in force, for those to sign who sign for the model now.

        Args:
            model: Name.
            cluster: The mesh; the policy holds in no other.
            known: The model's versions, as the provisioner lists them; none if it knows none.
        """
        before = known[0].policy if known else ReleasePolicy()
        floor = self.min_model_version
        policy = ReleasePolicy(
            model_name=model,
            version=before.version + 1,
            mrenclave=self.mrenclave,
            td_measurement=self.td_measurement,
            signers=self.signers,
            tcb_statuses=self.tcb_statuses,
            allow_simulated=self.simulated,
            allow_plain=self.plain,
            lease_s=self.lease_s,
            min_model_version=max(before.min_model_version, 1) if floor is None else floor,
            cluster=cluster,
            releases_per_hour=self.releases_per_hour,
            signer_set=len(known[0].signer_sets) if known else 0,
            log_generation=known[0].held_since or before.log_generation if known else 0,
        )
        if self.platforms is not None:
            policy.platforms.CopyFrom(Platforms(ppid_sha256=self.platforms))
        return policy
