"""Trust bundles as commands read them: one that rests on no evidence says so, once, each time it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.output import alarm
from cloister.client import TrustBundle
from cloister.errors import NotFound

WEAK: Final = (
    "This trust bundle was pinned by a fingerprint: no evidence says what code its verifier runs, and whoever controls "
    "the verifier's machine decides whom you believe. 'cloister trust pin HOST:PORT --mrenclave ...' pins by evidence."
)


def trusted(path: Path) -> TrustBundle:
    """Read a trust bundle.

    Raises:
        Stop: There is none, or it cannot be read.
        InvalidRequest: It is something else. Either message names the file.
    """
    bundle = read_bundle(path)
    if bundle.pinned is not None and bundle.pinned.is_weak:
        alarm(WEAK)
    return bundle


def read_bundle(path: Path) -> TrustBundle:
    """The same without a word about what it rests on; raises as `trusted`."""
    try:
        return TrustBundle.read(path)
    except NotFound as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    except OSError as error:
        raise Stop(f"{path} cannot be read: {error.strerror}", ExitCode.USAGE) from error


def write_bundle(bundle: TrustBundle, path: Path) -> None:
    """Put a trust bundle in its place, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(bundle.to_json())
    part.replace(path)
