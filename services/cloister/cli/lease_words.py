"""How the commands tell who holds a model's key, until when, and whether it is withdrawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cloister.api.v1.provisioner_pb2 import ModelSummary
from cloister.cli.output import instant
from cloister.kit.withdrawal import Withdrawn

COLUMNS: Final = ("leases", "last ends", "withdrawn")


def lease_facts(model: ModelSummary) -> dict[str, Any]:
    """For a script."""
    withdrawal = model.withdrawal
    return {
        "leases": model.leases,
        "leases_until": instant(model.leases_until_ms) if model.leases_until_ms else None,
        "withdrawn": {
            "what": str(Withdrawn(withdrawal.model_name, withdrawal.model_version)),
            "since": instant(withdrawal.withdrawn_at_ms),
            "by": withdrawal.by,
            "reason": withdrawal.reason,
        }
        if model.HasField("withdrawal")
        else None,
    }


def lease_cells(model: ModelSummary) -> tuple[object, ...]:
    """What stands under `COLUMNS`, for a person."""
    return cells(lease_facts(model))


def cells(facts: Mapping[str, Any]) -> tuple[object, ...]:
    """The same of what `lease_facts` gave."""
    withdrawn = facts["withdrawn"]
    return facts["leases"], facts["leases_until"], withdrawn and f"{withdrawn['since']}: {withdrawn['reason']}"


def told(models: Sequence[ModelSummary]) -> list[dict[str, Any]]:
    """Of the versions of which there is something to tell: a lease goes, or they are withdrawn."""
    return [
        {"model": f"{model.name}@{model.version}", **lease_facts(model)}
        for model in models
        if model.leases or model.HasField("withdrawal")
    ]
