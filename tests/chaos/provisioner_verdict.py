"""What must hold of a provisioner's state, wherever the process that worked on it was killed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from chaos.provisioner_loss import seed_of
from chaos.provisioner_roots import opened_with_both
from chaos.provisioner_work import noted
from cloister.kit.log_origin import RESUMED
from cloister.provisioner.ledger.ledger import Ledger
from cloister.provisioner.ledger.log_check import check
from cloister.provisioner.ledger.look import Look, Row
from cloister.provisioner.ledger.tables import EPOCH, MODEL_VERSION, POLICY, TABLES, WITHDRAWAL, Key
from cloister.provisioner.models.epoch_store import StoredEpoch
from cloister.provisioner.models.kept_secrets import kept_secrets
from cloister.provisioner.models.rotation import BEGUN
from cloister.provisioner.models.store import ModelStore
from cloister.provisioner.models.stored import StoredModel
from cloister.provisioner.recovery.dealing import DEALT, dealing_in_force
from cloister.provisioner.recovery.restoring import RESTORED
from cloister.provisioner.vaults.keyring import Keyring
from cloister.provisioner.vaults.vault import Wrapped
from cloister.seal.hpke import XWING, KeyPair
from cloister.seal.recovery import open_copy
from cloister.tlog.checkpoint import Checkpoint
from cloister.tlog.note import Ed25519Key, SignedNote
from fakes.release_desk import MODEL_KEY
from fakes.results import CLUSTER

TOLD: Final = {"dealt": DEALT, "restored": RESTORED, "resumed": RESUMED}


def judge(site: Path) -> int:
    """Open the state of a site as the next start does, and check it; returns how many lines the log has.

    Raises:
        AssertionError: Something does not hold; the message says what.
        CloisterError: It does not open.
    """
    with opened_with_both(site / "state") as (ledger, roots):
        asyncio.run(check(ledger.log))
        _head_is_signed(ledger)
        lines = [json.loads(entry.record) for entry in ledger.log.records()]
        models = [model for model, _policy in ModelStore(ledger).listing()]
        with ledger.looking() as look:
            _rows_are_what_the_lines_say(look, lines)
            _what_was_acknowledged_is_there(site, look, lines)
            _what_is_withdrawn_is_released_no_more(lines)
            _what_is_held_is_released_no_more(lines)
            _every_copy_opens(look, roots.keyring)
            rows = {model.name: look.all(EPOCH, model.name) for model in models}
        _every_key_opens(roots.keyring, models, rows, lines)
        return len(lines)


def _head_is_signed(ledger: Ledger) -> None:
    note = SignedNote.parse(ledger.log.checkpoint())
    Ed25519Key(f"{CLUSTER}/provisioner/{ledger.log.generation()}", ledger.log.log_key()).verify(note)
    assert Checkpoint.parse(note.text).size == ledger.log.size(), "the head is of another size than the log"


def _rows_are_what_the_lines_say(look: Look, lines: list[dict[str, Any]]) -> None:
    """No line without its change, and no change without its line."""
    said: dict[str, str] = {}
    for line in lines:
        for row, digest in line.get("rows", {}).items():
            said.pop(row, None) if digest is None else said.update({row: digest})
    found: dict[str, str] = {}
    for table in TABLES:
        for row in look.cursor.execute(table.selected).fetchall():
            found[table.called(table.key_of(row))] = table.digest(row).hex()
    assert found == said, f"rows and lines differ: {sorted(set(found.items()) ^ set(said.items()))}"


def _what_was_acknowledged_is_there(site: Path, look: Look, lines: list[dict[str, Any]]) -> None:
    leases = {line.get("lease_id") for line in lines if line["event"] == "key.released"}
    for done in noted(site):
        match done["done"]:
            case "registered":
                assert look.get(MODEL_VERSION, Key(done["name"], done["version"])), f"lost: {done}"
                assert lines[done["sequence"] - 1]["event"] == "model.registered", f"lost: {done}"
            case "allowed":
                assert look.get(POLICY, Key(done["name"], done["version"])), f"lost: {done}"
                assert lines[done["sequence"] - 1]["event"] == "policy.set", f"lost: {done}"
            case "withdrawn":
                assert look.get(WITHDRAWAL, Key(done["name"], done["version"])), f"lost: {done}"
            case "released":
                assert done["lease_id"] in leases, f"released and not on record: {done}"
            case "dealt" | "restored" | "resumed":
                assert lines[done["sequence"] - 1]["event"] == TOLD[done["done"]], f"lost: {done}"
            case "rotated":
                begun = lines[done["sequence"] - 1]
                assert (begun["event"], begun["to_root"]) == (BEGUN, done["to"]), f"lost: {done}"


def _what_is_withdrawn_is_released_no_more(lines: list[dict[str, Any]]) -> None:
    """The order of the log is the order of what happened."""
    gone: set[tuple[str, int]] = set()
    for line in lines:
        if line["event"] == "model.withdrawn":
            gone.add((line["model"], line["version"]))
        released = line["event"] == "key.released" and (line["model"], line.get("version")) in gone
        assert not released, f"released after it was withdrawn: {line}"


def _what_is_held_is_released_no_more(lines: list[dict[str, Any]]) -> None:
    """From the line of a resumption on, until the owner has signed anew."""
    held: set[str] = set()
    for line in lines:
        match line["event"]:
            case "model.held":
                held.add(line["model"])
            case "policy.set":
                held.discard(line["model"])
            case "key.released":
                assert line["model"] not in held, f"released while it was held: {line}"


def _every_copy_opens(look: Look, ring: Keyring) -> None:
    """By the shares of the recovery key in force, each to what lies under a root key."""
    deal = dealing_in_force(look)
    if not deal.generation:
        return
    pair = KeyPair.from_seed(XWING, seed_of(deal).view)
    for each in kept_secrets(look, CLUSTER):
        copied = open_copy(pair, each.copy, each.record.aad(), cluster=CLUSTER, generation=deal.generation)
        assert copied == ring.unwrap(each.record, each.wrapped), f"its copy is another: {each.table.called(each.key)}"


def _every_key_opens(
    ring: Keyring, models: list[StoredModel], epochs: dict[str, dict[int, Row]], lines: list[dict[str, Any]]
) -> None:
    """Of models the one that was registered, of epochs the one that the line of their beginning names."""
    begun = {(line["model"], line["epoch"]): line["key_id"] for line in lines if line["event"] == "epoch.begun"}
    for model in models:
        key = ring.unwrap(model.record_id(), Wrapped(model.wrapped_key, model.root_key_id))
        assert key == MODEL_KEY, f"the key of {model.name}@{model.version} is another one"
        for number, row in epochs[model.name].items():
            epoch = StoredEpoch(model.name, number, *row)
            wrapped = Wrapped(epoch.wrapped_seed, epoch.root_key_id)
            seed = ring.unwrap(epoch.record_id(model.owner.key), wrapped)
            key_id = KeyPair.from_seed(epoch.suite, seed.view).key_id.hex()
            assert key_id == begun[model.name, number], f"the key of {model.name}'s epoch {number} is another one"
