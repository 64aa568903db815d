"""The encrypted state of an enclave: opened under a key of its own, before anything looks at it.

Secrets that were brought in lie in `/cloister/sealed`. The CPU derives the key of that folder from what it and the
enclave are at present, so a microcode update, a raised security version and another machine each give another. What a
service keeps lies in `/cloister/state`, under a key that is one of those secrets. Afterwards the secrets are brought in
again, and the state opens as before.

Gramine remembers as long as the process lives what it could not open, so nothing may look at the state before its key
is set. With a wrong key it lets files be replaced, and code that takes what it does not find for a first start would
begin anew over a state that is there. So a marker in the state shows that the key is the right one, and a folder beside
the secrets, of which only the name counts, that there was a state. Against a host that takes both away, or puts old
ones back, neither helps.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from cloister.errors import NotReady
from cloister.rpc.files import read_private, replace_private

KEY: Final = "state.key"
"""Name of the file that holds the key of the state, among the secrets."""
KEY_BYTES: Final = 16
SEALED: Final = Path("/cloister/sealed")
STATE: Final = Path("/cloister/state")
KEYS: Final = Path("/dev/attestation/keys")
"""Gramine's keys of encrypted folders, by name; writing one sets it."""
KEY_NAME: Final = "state"
MARKER: Final = "begun"
_BEGUN: Final = "state.begun"
_AGAIN: Final = "bring its secrets in again ('cloister enclave import')"


def open_state(sealed: Path = SEALED, state: Path = STATE, keys: Path = KEYS) -> bool:
    """Set the key of the state, if this enclave has one, and see that what is there is what was left.

    Args:
        sealed: Secrets that were brought in; where there is no such folder, nothing is done.
        state: What the service keeps.
        keys: The folder of Gramine's keys.

    Returns:
        Whether there was no state, and one has been begun.

    Raises:
        NotReady: Secrets (`sealed.unreadable`) or state (`state.unreadable`) lie under another key; the key was never
            brought in (`state_key.missing`) or is none (`state_key.malformed`); the state is gone (`state.lost`).
    """
    if not sealed.is_dir():
        return False
    _check_readable(sealed)
    key = keys / KEY_NAME
    if key.exists():
        _set(key, _key_in(sealed))
    elif not state.is_dir():
        return False
    return _recognised(state, sealed / _BEGUN)


def _check_readable(sealed: Path) -> None:
    for folder, _, names in os.walk(sealed):  # it asks no file what it is: of one that cannot be opened, none tells
        for name in names:
            try:
                with Path(folder, name).open("rb") as file:
                    file.read(1)
            except OSError as error:
                raise NotReady(
                    f"{name} in {sealed} cannot be read ({error.strerror}): it was sealed on another machine, or "
                    f"before a microcode update or a change of the enclave's security version; {_AGAIN}",
                    reason="sealed.unreadable",
                ) from error


def _key_in(sealed: Path) -> bytes:
    try:
        key = read_private(sealed / KEY)
    except NotReady as error:
        raise NotReady(
            f"the key of the enclave's state was not brought in ('cloister enclave import' does that): {error}",
            reason="state_key.missing",
        ) from error
    if len(key) != KEY_BYTES:
        raise NotReady(f"{KEY} is not {KEY_BYTES} bytes: {_AGAIN} with the right one", reason="state_key.malformed")
    return key


def _set(key: Path, content: bytes) -> None:
    with key.open("r+b", buffering=0) as file:  # made by Gramine: one that is not there cannot be
        file.write(content)


def _recognised(state: Path, begun: Path) -> bool:
    """Refuse a state that is not as it was left; returns whether there was none."""
    names = os.listdir(state) if state.is_dir() else []  # noqa: PTH208 - names; of what lies there nothing is asked
    new = MARKER not in names
    if not new:
        _check_marker(state / MARKER)
    elif begun.is_dir() or any(not name.startswith(f".{MARKER}.") for name in names):
        raise NotReady(
            f"the state that this enclave had in {state} is gone, or part of it: put it back where it was, in "
            "host/state; for a new one, take host/state and host/sealed away and bring the secrets in again",
            reason="state.lost",
        )
    else:
        replace_private(state / MARKER, b"")
    begun.mkdir(mode=0o700, exist_ok=True)
    return new


def _check_marker(marker: Path) -> None:
    try:
        marker.read_bytes()
    except OSError as error:
        raise NotReady(
            f"the state in {marker.parent} cannot be read ({error.strerror}): it lies under another key than the "
            f"{KEY} that was brought in, or is damaged; take host/sealed away and {_AGAIN} with the {KEY} that it was "
            "begun with",
            reason="state.unreadable",
        ) from error
