"""A service's settings as it reads them in an enclave: the same, with each file where an enclave has it.

They are loaded by the service's own class before and after, so what would not start is refused here, in its own words.
"""

from __future__ import annotations

import importlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import tomlkit

from cloister.enclave.kinds import INSIDE, Kind, Place
from cloister.kit import config

SETTINGS: Final = "settings.toml"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Settings as they are inside.

    Attributes:
        file_name: Of the settings in `mesh/`.
        content: Depends on what the settings say, and not on where their files lie here or in which order they stand.
        files: Where each file or folder that they name lies inside, and here.
        simulated: A setting by which simulated evidence would be believed; empty where there is none.
    """

    file_name: str
    content: bytes
    files: Mapping[str, tuple[Place, Path]]
    simulated: str = ""


class _Fitted(NamedTuple):
    """A setting that has one value in an enclave; `left` are those that stand for any, so that this one is taken."""

    name: str
    value: Any
    left: tuple[Any, ...]
    why: str


_ONE_PROCESS: Final = "an enclave is one process and starts no other"
_FITTED: Final[Mapping[str, tuple[_Fitted, ...]]] = {
    "verifier": (_Fitted("appraisal_processes", 0, (), f"{_ONE_PROCESS}, so it judges on threads"),),
    "gateway": (
        _Fitted("front", "grpc", ("auto",), "Envoy is not in the enclave"),
        _Fitted("processes", 1, (), _ONE_PROCESS),
        _Fitted("rest_processes", 1, (), _ONE_PROCESS),
        _Fitted("rest_listen", "", (), f"{_ONE_PROCESS}, and HTTPS has one of its own: run a gateway for it outside"),
        _Fitted("otlp_endpoint", "", (), "an enclave sends no spans: they say who asks for what, and when"),
    ),
}


# Believing what is simulated: another root than Intel's, and workers whose hardware is none.
_SIMULATED: Final[Mapping[str, str]] = {"verifier": "anchor_root", "gateway": "simulated_workers"}


def rewritten(kind: Kind, settings_file: Path) -> Rewritten:
    """Read the settings of a service, and say what they are in an enclave.

    Raises:
        InvalidRequest: They do not load, ask for what no enclave has (`settings.invalid`), or name a file that nothing
            places (`setting.unplaced`).
    """
    settings_class: type = importlib.import_module(f"{kind.module}.settings").Settings
    prefix = f"CLOISTER_{kind.name.upper()}_"
    config.load(settings_class, settings_file, {}, prefix=prefix)
    written = tomllib.loads(settings_file.read_text(encoding="utf-8"))
    _fit(kind, written)
    files: dict[str, tuple[Place, Path]] = {}
    for name in config.path_names(settings_class):
        table, key = _table(written, name)
        if key in table:
            place = kind.place_of(name, key_signers=bool(written.get("key_signers")))
            path = absolute(settings_file.parent / table[key])
            files[name] = place, path
            table[key] = f"{INSIDE}/{place}/{name}" + (f"/{path.name}" if name in kind.with_folder else "")
    content = tomlkit.dumps(written, sort_keys=True).encode()
    config.parse(settings_class, content, Path(INSIDE, Place.MEASURED, SETTINGS))
    simulated = _SIMULATED.get(kind.name, "")
    return Rewritten(SETTINGS, content, files, simulated if written.get(simulated) else "")


def absolute(path: Path) -> Path:
    """The path from the root, with its links: whoever replaces what a link leads to is followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve() follows links


def _fit(kind: Kind, written: dict[str, Any]) -> None:
    for left_out in kind.left_out:
        written.pop(left_out, None)
    for name in kind.outside:
        table, key = _table(written, name)
        if key in table:
            raise config.settings_error(name, "is for a service outside an enclave, which carries no library for it")
    for fitted in _FITTED.get(kind.name, ()):
        found = written.setdefault(fitted.name, fitted.value)
        if found != fitted.value and found not in fitted.left:
            raise config.settings_error(fitted.name, f"must be {fitted.value!r} in an enclave: {fitted.why}")
        written[fitted.name] = fitted.value
    if written.get("collateral_url") and not written.get("collateral_ca_file"):
        raise config.settings_error(
            "collateral_ca_file", "is missing: an enclave has no list of authorities but what its settings name"
        )


def _table(written: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The table that a setting stands in, empty where it is not there, and its key."""
    *tables, key = name.split(".")
    for table in tables:
        written = written.get(table, {})
    return written, key
