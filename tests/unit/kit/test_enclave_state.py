"""The key of an enclave's state is set before anything else, and no state is begun where there was one.

Folders stand for encrypted ones; under Gramine, tests/enclave/test_state.py has the real ones. What cannot be opened is
here a link that leads nowhere, or a folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.errors import NotReady
from cloister.kit.enclave_state import KEY, open_state

SECRET = bytes(range(16))


class Enclave:
    """What an enclave has of folders."""

    def __init__(self, folder: Path) -> None:
        self.sealed, self.state, self.keys = (folder / name for name in ("sealed", "state", "keys"))
        for each in (self.sealed, self.state, self.keys):
            each.mkdir()
        self.seal(SECRET)
        (self.keys / "state").touch()

    def seal(self, key: bytes) -> None:
        (self.sealed / KEY).write_bytes(key)
        (self.sealed / KEY).chmod(0o600)

    def open(self) -> bool:
        return open_state(self.sealed, self.state, self.keys)


@pytest.fixture
def enclave(tmp_path: Path) -> Enclave:
    return Enclave(tmp_path)


def test_the_key_is_set_and_a_state_begun_once(enclave: Enclave) -> None:
    assert enclave.open()
    assert (enclave.keys / "state").read_bytes() == SECRET
    (enclave.state / "models.db").touch()
    assert not enclave.open()


def test_secrets_that_are_brought_in_again_open_the_same_state(enclave: Enclave) -> None:
    enclave.open()
    shutil.rmtree(enclave.sealed)
    enclave.sealed.mkdir()
    enclave.seal(SECRET)
    assert not enclave.open()
    shutil.rmtree(enclave.state)
    enclave.state.mkdir()
    with pytest.raises(NotReady, match="is gone"):  # it was known again that there is one
        enclave.open()


def gone(enclave: Enclave) -> None:
    shutil.rmtree(enclave.state)


def emptied(enclave: Enclave) -> None:
    gone(enclave)
    enclave.state.mkdir()


def without_its_marker(enclave: Enclave) -> None:
    (enclave.state / "models.db").touch()
    (enclave.state / "begun").unlink()
    (enclave.sealed / "state.begun").rmdir()


def under_another_key(enclave: Enclave) -> None:
    (enclave.state / "begun").unlink()
    (enclave.state / "begun").mkdir()


def sealed_elsewhere(enclave: Enclave) -> None:
    (enclave.sealed / "tls.private_key").symlink_to("nowhere")


def never_brought_in(enclave: Enclave) -> None:
    (enclave.sealed / KEY).unlink()


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (gone, "state.lost", "put it back where it was, in host/state"),
        (emptied, "state.lost", "put it back where it was, in host/state"),
        (without_its_marker, "state.lost", "or part of it"),
        (under_another_key, "state.unreadable", "with the state.key that it was begun with"),
        (sealed_elsewhere, "sealed.unreadable", r"tls.private_key .* microcode .*\('cloister enclave import'\)"),
        (never_brought_in, "state_key.missing", "'cloister enclave import' does that"),
        (lambda enclave: enclave.seal(SECRET[1:]), "state_key.malformed", "is not 16 bytes"),
    ],
)
def test_an_enclave_without_its_state_refuses_to_start_and_begins_none(
    enclave: Enclave, change: Callable[[Enclave], None], reason: str, words: str
) -> None:
    enclave.open()
    change(enclave)
    before = sorted(enclave.state.rglob("*"))
    with pytest.raises(NotReady, match=words) as refused:
        enclave.open()
    assert refused.value.reason == reason
    assert sorted(enclave.state.rglob("*")) == before


def test_a_first_start_that_was_killed_in_the_middle_is_one_still(enclave: Enclave) -> None:
    (enclave.state / ".begun.0011223344556677").touch()
    assert enclave.open()


def test_what_gramine_has_no_key_for_is_left_under_the_one_of_its_manifest(enclave: Enclave) -> None:
    """A simulated verifier, whose quotes hide Gramine's keys; then a gateway, which keeps no state."""
    shutil.rmtree(enclave.keys)
    assert enclave.open()
    assert not enclave.keys.exists()
    gone(enclave)
    shutil.rmtree(enclave.sealed / "state.begun")
    assert not enclave.open()
    assert not enclave.state.exists()


def test_an_enclave_with_no_secrets_has_nothing_to_open(enclave: Enclave) -> None:
    shutil.rmtree(enclave.sealed)
    assert not enclave.open()
    assert not list(enclave.state.iterdir())
