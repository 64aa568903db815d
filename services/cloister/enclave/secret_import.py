"""Secrets of an enclave, brought in before it first starts, when they change, and when its sealing key has changed.

What encrypts them is an enclave too, built and signed beside the one that they are for: of the same kind, signer and
security version, so that it has the same sealing key, but with another program (`cloister.kit.state_import`) and
another MRENCLAVE, which no policy names. Its manifest has the digest of each secret, so nothing comes in that was not
there when it was built.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cloister.enclave.configuration import IMPORT, SEALED
from cloister.enclave.measurement import Measurement
from cloister.enclave.run import program_for
from cloister.errors import NotReady

REASON: Final = "secrets.kept_out"
_WITHIN_S: Final = 120.0
_SAID: Final = "brought in: "


def awaited(place: Path) -> list[str]:
    """Which secrets are not in the sealed folder of a place, or are older there than outside, by their names.

    What is no more outside is not awaited: once it was brought in, it need not be anywhere else on this machine.
    """
    outside, sealed = place / IMPORT, place / SEALED
    return sorted({path.relative_to(outside).parts[0] for path in _files(outside) if _newer(path, outside, sealed)})


def bring_in(measured: Measurement, place: Path) -> list[str]:
    """Bring in all secrets that are outside; what runs in the place must have been stopped.

    Args:
        measured: The enclave whose secrets they are.
        place: Laid out for it.

    Returns:
        What was brought in, by its path in the sealed folder.

    Raises:
        NotReady: As `program_for`; or what brings it in was not built, or could not (`secrets.kept_out`).
    """
    program, name = program_for(measured), measured.kind.importer
    if not (place / f"{name}.manifest").is_file():
        raise NotReady(
            f"the secrets of this {measured.kind.name} were not there when it was built; build it again where they are",
            reason=REASON,
        )
    done = subprocess.run(  # noqa: S603  # Gramine, by its full path
        [program, str(place.absolute() / name)],
        cwd=place,
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        said = " ".join(done.stdout.split())[-300:]
        raise NotReady(
            f"the secrets could not be brought into {place / SEALED} (where they changed since the enclave was built, "
            f"build it again): {said}",
            reason=REASON,
        )
    return [line.removeprefix(_SAID) for line in done.stdout.splitlines() if line.startswith(_SAID)]


def _files(folder: Path) -> Iterator[Path]:
    """Every file below the links of a folder."""
    for link in sorted(folder.iterdir()):
        if link.is_dir():
            yield from (path for path in link.rglob("*") if path.is_file())
        elif link.is_file():
            yield link


def _newer(path: Path, outside: Path, sealed: Path) -> bool:
    inside = sealed / path.relative_to(outside)
    return not inside.exists() or path.stat().st_mtime > inside.stat().st_mtime
