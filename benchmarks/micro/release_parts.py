"""What each part of a release costs, and what its primitives alone would, for `benchmarks/micro/releases.py`.

CPU time, the least of several runs. A commit's parts are taken with SQLite's fsync off; the fsync apart, on the same
disk, by the clock on the wall.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from release_crowd import Asked, Crowd
from rich.table import Table

from cloister.provisioner.ledger.change import Change
from cloister.provisioner.ledger.ledger import Ledger, _Asked
from cloister.provisioner.models.rules import decide
from cloister.provisioner.releases import release
from cloister.seal import hpke
from cloister.seal.grant import grant_info, seal_grant
from fakes.results import CLUSTER, MODEL

RUNS, RUN_S, TURNS = 3, 0.15, 128
GROUPS = (1, 8, 64)
SHARED_BY = 8
"""Of what comes once for each commit, a release's share in the sums: as many as commits were seen to hold."""
DIGESTED = (4300, 3000, 1000, 600)
"""Bytes that are hashed in any case: the token for the proof, stored rows, the policy, the line."""


def parts(crowd: Crowd) -> Table:
    """A row for each part."""
    table = Table("part", "µs", title="parts of one release by X-Wing, one at a time")
    steps = dict(_deciding(crowd))
    for name, spent_us in steps.items():
        table.add_row(name, f"{spent_us:.0f}")
    table.add_section()
    for group in GROUPS:
        table.add_row(f"line and lease, {group} to a commit, without fsync", f"{_committed(crowd, group):.0f}")
    key, state = crowd.desk.ledger._key, crowd.desk.ledger._state
    signed_us = _best(lambda: key.head(state.tree, state.marks, bytes(32)))
    table.add_row("  of a commit: its head signed", f"{signed_us:.0f}")
    table.add_row("  of a commit: one fsync", f"{_fsync(crowd.desk.folder):.0f}")
    table.add_section()
    table.add_row("a thread and back, 64 at once", f"{_hop():.0f}")
    return table


def limit(crowd: Crowd) -> Table:
    """What no release can do without, each by its library alone."""
    table = Table("primitive", "µs", title="the limit: one release by primitives alone")
    steps = dict(_primitives(crowd))
    for name, spent_us in steps.items():
        table.add_row(name, f"{spent_us:.1f}")
    table.add_section()
    total_us = sum(steps.values())
    table.add_row("all", f"{total_us:.0f}")
    table.add_row("releases a second and core", f"{1e6 / total_us:.0f}")
    shared_us = _fsync(crowd.desk.folder) / SHARED_BY
    table.add_row(f"beside that, waited for: one fsync, shared by {SHARED_BY}", f"{shared_us:.0f}")
    return table


def _deciding(crowd: Crowd) -> Iterator[tuple[str, float]]:
    desk, releaser = crowd.desk, crowd.desk.releaser
    request, peer = crowd.requests(1)[0]
    result = releaser._checked(request, desk.now)
    offer = releaser._offers.find(MODEL, 0)
    described, policy = offer.as_signed()
    granted = releaser._granted(request, result, desk.now)
    info = grant_info(CLUSTER, result.instance, described.digest, 2, granted.lease_id, result.ear_id)
    model = offer.model
    yield "a nonce, made and taken", _best(lambda: _nonce(crowd, peer.spiffe_id, peer.spki_sha256))
    yield "the verifier's keys, looked at in their file", _best(releaser._verifier_keys.current)
    yield "Attestation Result: form, ES256, claims", _best(lambda: releaser._checked(request, desk.now))
    yield "proof of possession: Ed25519", _best(lambda: release._possesses(result, request))
    yield "model and policy found, as signed", _best(lambda: releaser._offers.find(MODEL, 0).as_signed())
    yield "rules judged", _best(lambda: decide(result, policy, model_version=2, cluster=CLUSTER))
    yield "model key unwrapped", _best(lambda: releaser._unwrapped(model))
    yield (
        "epochs found, judged, unwrapped",
        _best(lambda: desk.epochs.released_to(result, model, policy, offer.policy, desk.now)),
    )
    yield (
        "grant sealed by HPKE",
        _best(lambda: seal_grant(granted.grant, suite=hpke.XWING, public=result.hpke_public, info=info)),
    )


def _nonce(crowd: Crowd, peer: str, spki: bytes) -> None:
    crowd.desk.nonces.consume(crowd.desk.nonces.issue(peer=peer, tls_spki_sha256=spki), peer=peer, tls_spki_sha256=spki)


def _committed(crowd: Crowd, group: int) -> float:
    """Of one release in a commit of so many, on the calling thread: the ledger's own has nothing to do meanwhile."""
    changes = asyncio.run(_changes(crowd, crowd.requests(TURNS)))
    asked = [_Asked(change, contextvars.copy_context(), False) for change in changes]
    ledger, writing = crowd.desk.ledger, crowd.desk.ledger._database.writing

    def all_groups() -> None:
        for begin in range(0, TURNS, group):
            ledger._committed(asked[begin : begin + group])

    writing.execute("PRAGMA synchronous = OFF")
    try:
        return _best(all_groups) / TURNS
    finally:
        writing.execute("PRAGMA synchronous = FULL")


async def _changes(crowd: Crowd, asked: Sequence[Asked]) -> list[Callable[[Change], Any]]:
    """What releases would have the ledger do."""
    noted = _Noted()
    releaser = crowd.desk.new_releaser()
    releaser._ledger = noted  # type: ignore[assignment]  # nothing else of it is used here
    for request, peer in asked:
        await releaser.release(request, peer)
    return noted.changes


class _Noted(Ledger):
    """In the place of a ledger: notes what it is asked to change."""

    def __init__(self) -> None:
        self.changes: list[Callable[[Change], Any]] = []

    async def changed(self, make: Callable[[Change], Any], *, anyway: bool = False) -> Any:
        """Note it."""
        self.changes.append(make)

    def coming(self) -> AbstractContextManager[None]:
        """Nobody waits for it."""
        return nullcontext()

    def check(self) -> None:
        """Nobody objects."""


def _fsync(folder: Path) -> float:
    with (folder / "plain").open("ab", buffering=0) as file:

        def once() -> None:
            file.write(bytes(4096))
            os.fsync(file.fileno())

        return min(_timed(time.perf_counter, once, 16) for _ in range(RUNS))


def _hop() -> float:
    async def many() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(64):
                group.create_task(asyncio.to_thread(int))

    return _best(lambda: asyncio.run(many())) / 64


def _primitives(crowd: Crowd) -> Iterator[tuple[str, float]]:
    result = crowd.desk.releaser._checked(crowd.requests(1)[0][0], crowd.desk.now)
    message = bytes(4300)
    token_key = ec.generate_private_key(ec.SECP256R1())
    token_signature = token_key.sign(message, ec.ECDSA(SHA256()))
    own_key = ed25519.Ed25519PrivateKey.generate()
    signature = own_key.sign(bytes(128))
    aead = AESGCM(bytes(32))
    wrapped = aead.encrypt(bytes(12), bytes(32), bytes(200))
    token_public, own_public = token_key.public_key(), own_key.public_key()
    yield "ES256 verified", _best(lambda: token_public.verify(token_signature, message, ec.ECDSA(SHA256())))
    yield "Ed25519 verified", _best(lambda: own_public.verify(signature, bytes(128)))
    yield "X-Wing encapsulated, 1 KB sealed", _best(lambda: hpke.seal(hpke.XWING, result.hpke_public, bytes(1024), b""))
    yield "AES-256-GCM opened, twice", 2 * _best(lambda: aead.decrypt(bytes(12), wrapped, bytes(200)))
    yield "SHA-256", _best(lambda: [hashlib.sha256(bytes(size)).digest() for size in DIGESTED])
    yield f"Ed25519 signed, shared by {SHARED_BY}", _best(lambda: own_key.sign(bytes(128))) / SHARED_BY


def _best(work: Callable[[], object]) -> float:
    """Microseconds of CPU for one turn, the least of several runs; some systems count CPU in ticks of 10 ms."""
    turns, began = 0, time.perf_counter()
    while time.perf_counter() - began < RUN_S / 10:
        work()
        turns += 1
    return min(_timed(time.process_time, work, turns * 10) for _ in range(RUNS))


def _timed(clock: Callable[[], float], work: Callable[[], object], turns: int) -> float:
    began = clock()
    for _ in range(turns):
        work()
    return (clock() - began) / turns * 1e6
