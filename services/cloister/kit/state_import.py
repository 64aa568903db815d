"""Brings secrets into the sealed folder of an enclave: in an enclave of the same signer and product.

    python -m cloister.kit.state_import FROM TO

Gramine hands it only files that the manifest names with their digests, so who signed the enclave said what may come in,
and encrypts what it writes. What is there already is replaced, also where it was sealed under a key that this CPU no
longer has; nothing is taken away. Only the key of the state is never replaced by another one while it can be read: the
state would be lost with it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from cloister.kit.enclave_state import KEY
from cloister.rpc.files import replace_private

_MAX_BYTES = 1 << 20


def bring_in(source: Path, sealed: Path) -> list[str]:
    """Copy every file below a folder to the same place below another, each for our own eyes.

    Returns:
        The names of what was copied, in order.

    Raises:
        OSError: Something cannot be read or written.
        ValueError: A file is far too large for a secret, or another key of the state than the one that is there.
    """
    names = []
    for path in sorted(_files(source)):
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"{path.name} is far too large for a secret")
        target = sealed / path.relative_to(source)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(target, content)
        names.append(str(path.relative_to(source)))
    return names


def main() -> int:
    """Copy as the command line says; returns the exit code."""
    source, sealed = map(Path, sys.argv[1:])
    for name in bring_in(source, sealed):
        print(f"brought in: {name}")
    return 0


def _replace(target: Path, content: bytes) -> None:
    try:
        found = target.read_bytes()
    except FileNotFoundError:
        pass
    except PermissionError:  # what Gramine says of a file under another key
        target.unlink()
    else:
        if target.name == KEY and found != content:
            raise ValueError(
                f"another {KEY} is in there: take host/sealed away only if that one opens no state of yours"
            )
    replace_private(target, content)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


if __name__ == "__main__":
    sys.exit(main())
