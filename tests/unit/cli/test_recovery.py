"""`cloister recovery`: what an owner does without asking anybody."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.cli import identities, recovery_files
from cloister.cli.mesh_folder import Mesh
from cloister.client.recovery import SealedShare
from cloister.errors import InvalidRequest, NotFound
from cloister.kit.recovery_cards import RecoveryCard
from cloister.seal.hpke import KeyPair
from fakes.founded import CLUSTER
from fakes.recovery_holders import Holder, dealt, holders

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(mesh: Mesh, tmp_path: Path) -> Path:
    """An owner's identity that is only this test's."""
    made = tmp_path / "alice"
    identities.issue(identities.mesh_root(mesh), mesh.cluster, "owner", "alice", made, now=datetime.now(UTC))
    return made


def share(folder: Path) -> SealedShare:
    """What was dealt to that owner, beside two others."""
    card = RecoveryCard.read((folder / recovery_files.CARD).read_bytes(), cluster=CLUSTER)
    alice = Holder("alice", CLUSTER, recovery_files.key_pair(folder), identities.signing_key(folder))
    deal, _ = dealt([alice, *holders("bob", "carol", cluster=CLUSTER)], cluster=CLUSTER)
    return SealedShare.of(deal, CLUSTER, card.public_key)


def test_a_recovery_key_stays_private_and_its_card_is_signed(run: Run, mesh: Mesh, folder: Path) -> None:
    code, said, _ = run("recovery", "keygen", "--identity", folder, "--mesh", mesh.folder)
    assert (code, identities.owner_key(folder) in said) == (0, True)
    key = folder / recovery_files.KEY
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_size) == (0o600, 32)
    assert key.read_bytes().hex() not in said
    before = key.read_bytes()
    code, _, err = run("recovery", "keygen", "--identity", folder, "--mesh", mesh.folder)
    assert (code, "a share may have been dealt to it" in err, key.read_bytes()) == (2, True, before)


def test_a_share_is_checked_without_asking_or_showing_anything(run: Run, mesh: Mesh, folder: Path) -> None:
    recovery_files.make(folder)
    kept = share(folder)
    (folder / recovery_files.SHARE).write_bytes(kept.written())
    words = kept.opened(recovery_files.key_pair(folder)).words.reveal().decode()
    code, said, _ = run("recovery", "check", "--identity", folder, "--mesh", mesh.folder)
    assert (code, "1 of 3, of which 2 are needed" in said) == (0, True)
    assert not any(word in said.split() for word in words.split()[4:])


@pytest.mark.attack("F12")
@pytest.mark.parametrize("broken", ["other key", "altered", "other generation", "other place", "no share", "missing"])
def test_a_share_that_does_not_open_is_said_not_to(run: Run, mesh: Mesh, folder: Path, broken: str) -> None:
    recovery_files.make(folder)
    path = folder / recovery_files.SHARE
    members = json.loads(share(folder).written())
    match broken:
        case "other key":
            (folder / recovery_files.KEY).write_bytes(b"k" * 32)
        case "altered":
            members["sealed"] = members["sealed"][:-8] + "AAAAAAA="
        case "other generation":
            members["generation"] = 2
        case "other place":
            members["index"] = 1
        case "no share":
            members.pop("commitment")
    if broken != "missing":
        path.write_text(json.dumps(members))
    code, _, err = run("recovery", "check", "--identity", folder, "--mesh", mesh.folder)
    assert code != 0
    assert "error: " in err


def test_a_share_is_found_by_the_key_that_it_was_dealt_to(folder: Path) -> None:
    recovery_files.make(folder)
    deal, _ = dealt(holders("bob", "carol", cluster=CLUSTER), cluster=CLUSTER)
    with pytest.raises(NotFound):
        SealedShare.of(deal, CLUSTER, KeyPair.generate().public)
    for raw in (b"", b"[]", b"{}", share(folder).written().replace(b'"v": 1', b'"v": 2')):
        with pytest.raises(InvalidRequest):
            SealedShare.read(raw)


def test_too_few_holders_are_refused_before_anybody_is_asked(run: Run, mesh: Mesh, folder: Path) -> None:
    recovery_files.make(folder)
    code, _, err = run("recovery", "deal", folder / recovery_files.CARD, "--threshold", "2", "--mesh", mesh.folder)
    assert (code, "2 of 1 cannot be dealt" in err) == (1, True)
