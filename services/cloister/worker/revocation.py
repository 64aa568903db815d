"""What happens to a worker that is revoked: it ends, and takes its keys and models with it (attacks E11, J14).

The verifier tells each worker what concerns itself. A host that keeps this news from an enclave has only the time until
the enclave must renew its leases and its membership, which a verifier and a provisioner that know better refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from cloister.errors import EvidenceRejected
from cloister.kit.trust_feed import TrustFeed
from cloister.rpc.channel import Peer

SILENCE_S: Final = 60.0


async def watching(
    verifier: Peer,
    *,
    token: Callable[[], str],
    learn: Callable[[bytes], object],
    monotonic: Callable[[], float],
) -> None:
    """Listen for as long as the worker runs.

    Args:
        verifier: Asked as ourselves.
        token: Our own Attestation Result, which says what we are.
        learn: Gets the verifier's signed key sets.
        monotonic: The worker's counter.

    Raises:
        EvidenceRejected: Something that we are is revoked.
    """
    heard = asyncio.Event()
    feed = TrustFeed(monotonic=monotonic, silence_s=SILENCE_S, learn=learn, heard=heard.set)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(feed.follow(verifier, token), name="trust followed")
        while not feed.revoked:
            heard.clear()
            await heard.wait()
        following.cancel()
    found = min(feed.revoked, key=str)
    raise EvidenceRejected(f"this worker's {found.kind.value} is revoked", reason=found.kind.refusal)
