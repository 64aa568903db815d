"""Trust bundles as commands read them: one that rests on no evidence says so, once, each time it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cloister.cli.output import alarm
from cloister.client import TrustBundle

WEAK: Final = (
    "This trust bundle was pinned by a fingerprint: no evidence says what code its verifier runs, and whoever controls "
    "the verifier's machine decides whom you believe. 'cloister trust pin HOST:PORT --mrenclave ...' pins by evidence."
)


def trusted(path: Path) -> TrustBundle:
    """Read a trust bundle.

    Raises:
        NotFound: There is none.
        InvalidRequest: It is something else.
    """
    bundle = TrustBundle.read(path)
    if bundle.pinned is not None and bundle.pinned.is_weak:
        alarm(WEAK)
    return bundle


def write_bundle(bundle: TrustBundle, path: Path) -> None:
    """Put a trust bundle in its place, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(bundle.to_json())
    part.replace(path)
