"""Members of a mesh that need no evidence: what the list of attested workers is tested with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cloister.verifier.member import Keys, Member
from fakes.results import CLUSTER, INSTANCE, WORKER

KEYS = Keys(tls_spki_sha256=b"t" * 32, receipt_key=b"r" * 32, hpke_suite="x25519", hpke_public=b"h" * 32)
OTHER_KEYS = replace(KEYS, receipt_key=b"x" * 32)


def member(number: int = 0, **changes: Any) -> Member:
    """The how-manieth worker, believed for an hour from now."""
    instance = f"{number:032x}" if number else INSTANCE
    made = Member(
        instance=instance,
        spiffe_id=WORKER,
        server_name=f"{instance}.worker.{CLUSTER}",
        endpoint="127.0.0.1:9000",
        keys=KEYS,
        claims=b"claims",
        quote=b"quote",
        collateral=b"{}",
        attestation_result="ear",
        expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
        simulated=False,
    )
    return replace(made, **changes)
