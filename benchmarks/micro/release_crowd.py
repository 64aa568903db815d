"""A provisioner's inside with many workers that ask for one model's key, for `benchmarks/micro/releases.py`."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from cloister.provisioner.models.epoch_terms import EpochTerms
from cloister.provisioner.releases.release import ReleaseRequest
from cloister.rpc.identity import PeerIdentity
from cloister.seal.grant import proof_message
from cloister.seal.hpke import KeyPair
from fakes.release_desk import ReleaseDesk, WorkerKeys, open_ledger
from fakes.results import CLUSTER, MODEL

WORKERS = 256
WORKERS_PER_PLATFORM = 8
RESULT_LIFE = timedelta(minutes=5)

Asked = tuple[ReleaseRequest, PeerIdentity]


class Crowd:
    """Workers with keys of their own, each of which has proved what it must.

    Args:
        desk: Where they ask.
        suite: What their grants are sealed with.
    """

    def __init__(self, desk: ReleaseDesk, suite: str) -> None:
        self.desk = desk
        self.workers = [(secrets.token_hex(16), WorkerKeys(hpke=KeyPair.generate(suite))) for _ in range(WORKERS)]

    def requests(self, count: int) -> list[Asked]:
        """What the next so many releases are asked for with, each with a result and a nonce of its own."""
        return [self._request(number % WORKERS) for number in range(count)]

    def _request(self, number: int) -> Asked:
        name, keys = self.workers[number]
        spiffe_id = f"spiffe://{CLUSTER}/worker/{name}"
        token = self.desk.token(
            ear_id=secrets.token_hex(16),
            expires_at=self.desk.now + RESULT_LIFE,
            spiffe_id=spiffe_id,
            instance=name,
            tls_spki_sha256=keys.tls_spki_sha256,
            receipt_key=keys.receipt.public_key().public_bytes_raw(),
            hpke_suite=keys.hpke.suite,
            hpke_public=keys.hpke.public,
            ppid_sha256=f"{number // WORKERS_PER_PLATFORM:064x}",
        )
        nonce = self.desk.nonces.issue(peer=spiffe_id, tls_spki_sha256=keys.tls_spki_sha256)
        request = ReleaseRequest(
            model_name=MODEL,
            model_version=0,
            attestation_result=token,
            nonce=nonce,
            proof=keys.receipt.sign(proof_message(nonce, token, MODEL, 0)),
        )
        return request, keys.peer(spiffe_id=spiffe_id, name=name)


@contextmanager
def crowd(folder: Path, suite: str) -> Iterator[Crowd]:
    """A crowd at a desk of its own, whose ledger is a file in `folder`; its epochs are of the same suite."""
    with open_ledger(folder) as ledger:
        desk = ReleaseDesk(folder, ledger, terms=EpochTerms(suite=suite))
        desk.register()
        desk.allow()
        yield Crowd(desk, suite)
