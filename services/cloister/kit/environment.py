"""What the host may say to a process inside an enclave: next to nothing (attack I02).

The measured manifest fixes the environment and the arguments, and lets pass what a settings class marks `host_chosen`.
Here a process sees for itself that this is so. Whether it is inside is not the host's to say either: Gramine always has
a directory `/dev/attestation`, and the label is a variable that every manifest of ours fixes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cloister.errors import InvalidRequest

LABEL: Final = "CLOISTER_ENCLAVE"
"""Which kind of enclave it is, and of which set: `worker hardened`, say."""
SETTINGS_FILE: Final = Path("/cloister/mesh/settings.toml")
# grpcio has no minimum TLS version in Python. All our certificates are ECDSA, so with nothing but RSA suites to offer
# TLS 1.2 finds no common ground, while TLS 1.3, whose suites this does not touch, connects. gRPC reads the variable
# once, when it is imported. GRPC_VERBOSITY: its core writes past our log, with addresses and names in it.
TLS_ENVIRONMENT: Final[Mapping[str, str]] = {
    "GRPC_SSL_CIPHER_SUITES": "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384",
    "GRPC_VERBOSITY": "NONE",
}
FIXED: Final = frozenset(
    {
        LABEL,
        *TLS_ENVIRONMENT,
        *("HOME", "PATH", "TMPDIR", "TZ"),
        *("LANG", "LC_ALL", "LC_CTYPE"),  # without a locale, Python itself sets the last
        *("LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    }
)
"""The variables that a manifest may fix. A value is not looked at: it is measured."""

_REASON: Final = "settings.invalid"
_GRAMINE: Final = Path("/dev/attestation")
_SHOWN: Final = 80


def inside_enclave(environ: Mapping[str, str] = os.environ, gramine: Path = _GRAMINE) -> bool:
    """Whether this process runs under Gramine."""
    return LABEL in environ or gramine.is_dir()


def label(environ: Mapping[str, str] = os.environ) -> str:
    """What this process says in its log that it runs in; empty outside. To believe it is for nobody."""
    return environ.get(LABEL, "")


def check_environment(environ: Mapping[str, str], *, prefix: str) -> None:
    """Check that nobody has added a variable.

    Args:
        environ: Of this process, in an enclave.
        prefix: `CLOISTER_WORKER_`, say; which of those may be there, `kit.config` knows.

    Raises:
        InvalidRequest: With reason `settings.invalid`; names the first variable that may not be there, never its value.
    """
    unknown = sorted(name for name in environ if name not in FIXED and not name.startswith(prefix))
    if unknown:
        raise InvalidRequest(
            f"environment: {ascii(unknown[0])[:_SHOWN]} is neither fixed by the manifest nor the host's to choose",
            reason=_REASON,
        )


def check_interpreter() -> None:
    """Check that Python was started with `-I`, so that no variable, folder or user of the host's adds code to it.

    Raises:
        InvalidRequest: With reason `settings.invalid`; also where something traces or profiles what it runs.
    """
    if not sys.flags.isolated:
        raise InvalidRequest("inside an enclave Python is started with -I", reason=_REASON)
    if sys.gettrace() is not None or sys.getprofile() is not None:
        raise InvalidRequest("inside an enclave nothing traces or profiles the service", reason=_REASON)


def check_settings_file(file: Path | None) -> None:
    """Check that the settings are those that are measured.

    Raises:
        InvalidRequest: With reason `settings.invalid`.
    """
    if file != SETTINGS_FILE:
        raise InvalidRequest(f"inside an enclave --settings is {SETTINGS_FILE} and nothing else", reason=_REASON)
