"""Text of a kustomization: what it refers to, and Secrets made of files beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cloister.cli.failures import ExitCode, Stop

FILE: Final = "kustomization.yaml"
_MOST_BYTES: Final = 1 << 20
"""Of a Secret, whatever holds it."""

Rows = Sequence[tuple[str, Path]]
"""Of a Secret: each key, and the file whose content it is."""


def reference(manifests: str, folder: Path) -> str:
    """How a kustomization in `folder` names another one, which is a folder or an address.

    Raises:
        Stop: There is none in that folder.
    """
    if "://" in manifests:
        return manifests
    if not (Path(manifests) / FILE).is_file():
        raise Stop(f"{manifests} is no kustomization; name one of those in deploy/kubernetes", ExitCode.USAGE)
    return os.path.relpath(Path(manifests).resolve(), folder.resolve())


def references(name: str, wanted: Sequence[str]) -> str:
    """A list of what the kustomization is made of; nothing where nothing is wanted."""
    return "".join([f"{name}:\n", *(f"  - {each}\n" for each in wanted)]) if wanted else ""


def secret_generator(secrets: Mapping[str, Rows], folder: Path) -> str:
    """Secrets by name, of files that are named as they lie seen from `folder`.

    Raises:
        Stop: One is larger than a Secret may be.
    """
    text = "secretGenerator:\n"
    for name, rows in secrets.items():
        if sum(path.stat().st_size for _, path in rows) > _MOST_BYTES:
            raise Stop(f"the files of {name} are together larger than the 1 MiB that a Secret may hold")
        text += f"  - name: {name}\n    files:\n"
        text += "".join(f"      - {key}={os.path.relpath(path.resolve(), folder.resolve())}\n" for key, path in rows)
    return text
