"""Files that the gateway's settings name and that commands write: every gateway follows them by itself."""

from __future__ import annotations

import tomllib
from pathlib import Path

from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh
from cloister.rpc.files import read_public


def file_named(mesh: Mesh, setting: str, example: str) -> Path:
    """The file that a setting of the gateway names, which need not exist.

    Raises:
        Stop: It names none; the message says what to add.
    """
    settings = mesh.settings("gateway")
    try:
        named = tomllib.loads(read_public(settings).decode()).get(setting)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Stop(f"{settings} does not parse: {error}") from error
    if not isinstance(named, str):
        what = setting.removesuffix("_file")
        raise Stop(f"{settings} names no {what} file; add '{setting} = \"{example}\"' and start the gateway again")
    return settings.parent / named
