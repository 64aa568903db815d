"""The part of an enclave that one mesh decides: its settings, and the files that they name.

What is measured is copied to `mesh/`, byte for byte, so that a change of it is another enclave. What the host keeps is
linked from `host/` by its path: whoever replaces a file, or a link in that path, is followed without a restart. What is
secret lies in `host/sealed`, encrypted by the enclave; until it has been brought in, it is linked from `import/`. What
the service keeps lies in `host/state`, under a key that is one of the secrets and is made here.
`mesh/` is the same for everybody who has the same settings and measured files, the other two are this machine's.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.enclave import redis_settings, service_settings
from cloister.enclave.kinds import INSIDE, Kind, Place
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.enclave_state import KEY, KEY_BYTES
from cloister.rpc.files import create_private

MESH: Final = "mesh"
HOST: Final = "host"
IMPORT: Final = "import"
SEALED: Final = "host/sealed"
STATE: Final = "host/state"
_MAX_MEASURED_BYTES: Final = 1 << 20
# Names that an enclave knows without a name server, and in which order it asks.
_ETC: Final = {"hosts": "127.0.0.1 localhost\n::1 localhost\n", "nsswitch.conf": "hosts: files dns\n"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What an enclave was configured with.

    Attributes:
        settings: Path of the settings inside.
        measured: Settings whose files are in `mesh/`, by name.
        host: What each link in `host/` leads to, by the setting's name.
        secrets: What is to be brought in and lies outside now, by the setting's name; the key of the state lies beside
            the settings.
        simulated: A setting by which simulated evidence would be believed, if there is one.
    """

    settings: str
    measured: Mapping[str, Path]
    host: Mapping[str, Path]
    secrets: Mapping[str, Path]
    simulated: str = ""


def take_configuration(kind: Kind, settings_file: Path, into: Path) -> Configuration:
    """Put the settings of a service, and what they name, into the folder of its enclave.

    Files of the host need not be there yet: the measured part can be made again by an auditor who has none of them.

    Args:
        kind: Which service.
        settings_file: Its settings, as it reads them outside; redis.conf for Redis.
        into: The enclave's folder.

    Raises:
        InvalidRequest: The settings cannot be those of an enclave; the message names the key.
        NotReady: A file that is to be measured cannot be read (`measured.unreadable`).
    """
    settings_file = service_settings.absolute(settings_file)
    rewritten = as_inside(kind, settings_file)
    configuration = _configuration(kind, settings_file, rewritten)
    _write_measured(configuration.measured, {rewritten.file_name: rewritten.content}, into / MESH)
    link(configuration, into)
    return configuration


def configuration_here(kind: Kind, settings_file: Path, folder: Path) -> Configuration:
    """Where what an enclave's settings name lies on this machine, for one that was built on another.

    Args:
        kind: Which service.
        settings_file: The settings that it was built from, where this machine has them.
        folder: The enclave's.

    Raises:
        InvalidRequest: It was built from other settings than these (`settings.differ`), or as `take_configuration`.
    """
    settings_file = service_settings.absolute(settings_file)
    rewritten = as_inside(kind, settings_file)
    if (folder / MESH / rewritten.file_name).read_bytes() != rewritten.content:
        raise InvalidRequest(
            f"{folder} was built from other settings than {settings_file} has now: build it again, and have it "
            "believed",
            reason="settings.differ",
        )
    return _configuration(kind, settings_file, rewritten)


def _configuration(kind: Kind, settings_file: Path, rewritten: service_settings.Rewritten) -> Configuration:
    def lying(place: Place) -> dict[str, Path]:
        return {name: path for name, (where, path) in sorted(rewritten.files.items()) if where is place}

    return Configuration(
        settings=f"{INSIDE}/{MESH}/{rewritten.file_name}",
        measured=lying(Place.MEASURED),
        host={name: path.parent if name in kind.with_folder else path for name, path in lying(Place.HOST).items()},
        secrets=lying(Place.SEALED) | ({KEY: settings_file.parent / KEY} if kind.module and kind.state else {}),
        simulated=rewritten.simulated,
    )


def as_inside(kind: Kind, settings_file: Path) -> service_settings.Rewritten:
    """Settings as they are in an enclave, of whatever kind; raises InvalidRequest."""
    rewrite = service_settings.rewritten if kind.module else redis_settings.rewritten
    return rewrite(kind, settings_file)


def link(configuration: Configuration, into: Path) -> None:
    """Link what the host keeps, and secrets that are yet to be brought in, as they lie on this machine."""
    for folder, files in ((HOST, configuration.host), (IMPORT, configuration.secrets)):
        (into / folder).mkdir(parents=True, exist_ok=True)
        for old in (into / folder).iterdir():
            if old.is_symlink():
                old.unlink()
        for name, path in files.items():
            (into / folder / name).symlink_to(path)
    make_private(into)


def make_private(folder: Path) -> None:
    """Make the folders that the enclave fills with ciphertext, where they are not there."""
    for name in (SEALED, STATE):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def make_state_key(configuration: Configuration) -> None:
    """Make the key that an enclave's state is to lie under, if it has one and there is none beside its settings.

    Where other secrets are missing none is made: whoever only compares what is measured has no use for it.
    """
    path = configuration.secrets.get(KEY)
    others = [each for name, each in configuration.secrets.items() if name != KEY]
    if path is not None and not path.exists() and all(each.exists() for each in others):
        create_private(path, secrets.token_bytes(KEY_BYTES))


def _write_measured(files: Mapping[str, Path], written: Mapping[str, bytes], folder: Path) -> None:
    contents = {**written, **{f"etc/{name}": text.encode() for name, text in _ETC.items()}}
    for name, path in files.items():
        try:
            contents[name] = path.read_bytes()
        except OSError as error:
            raise NotReady(f"{name}: {path} cannot be read: {error.strerror}", reason="measured.unreadable") from error
        if len(contents[name]) > _MAX_MEASURED_BYTES:
            raise InvalidRequest(f"{name}: {path} is far too large for what it should hold", reason="settings.invalid")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "etc").mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
