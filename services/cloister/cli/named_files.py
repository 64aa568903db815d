"""What a service has to be given of a mesh folder: its settings, and the files that they name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cloister.cli.failures import Stop
from cloister.cli.mesh_folder import Mesh

_ELSEWHERE: Final = ("state_dir", "models_dir")
"""Settings whose folder is a volume of its own, where there is more than one machine."""
_REDIS: Final = ("redis/redis.conf", "redis/users.acl", "identities/redis/main")


def named_files(mesh: Mesh, service: str) -> tuple[Path, ...]:
    """The files of a service, inside the mesh folder, each once; those of a folder that the settings name included.

    A service of a simulated mesh that makes evidence has the simulated platform too.
    """
    if service == "redis":
        named = [mesh.folder / name for name in _REDIS]
    else:
        settings = mesh.settings(service)
        values = tomllib.loads(settings.read_text(encoding="utf-8"))
        named = [settings, *(settings.parent / value for value in _paths(values))]
        if mesh.simulated and service in ("verifier", "worker"):
            named.append(mesh.folder / "simulator")
    return _within(mesh, named)


def sealed_files(mesh: Mesh, service: str) -> tuple[Path, ...]:
    """Those of them that are brought into the service's enclave, and that nothing outside needs then.

    Raises:
        Stop: There is no key of its state yet, which 'cloister enclave build' makes.
        InvalidRequest: The settings cannot be those of an enclave.
    """
    from cloister.enclave.configuration import as_inside
    from cloister.enclave.kinds import Place, kind_named
    from cloister.kit.enclave_state import KEY

    settings = mesh.settings(service)
    key = settings.parent / KEY
    if not key.is_file():
        raise Stop(f"there is no {key}: build the enclave of this mesh's {service} first, where its secrets are")
    files = as_inside(kind_named(service), settings).files.values()
    return _within(mesh, [key, *(path for place, path in files if place is Place.SEALED)])


def importer_files(enclave: Path) -> tuple[Path, ...]:
    """What brings secrets into an enclave, of the folder that it was built and signed in.

    Raises:
        Stop: Nobody has built one there, or signed it for SGX.
    """
    from cloister.enclave.kinds import IMPORTER
    from cloister.enclave.measurement import FOR_SGX

    found = [enclave / f"{enclave.name}{IMPORTER}{suffix}" for suffix in (".manifest", FOR_SGX, ".sig")]
    for path in found:
        if not path.is_file():
            raise Stop(f"there is no {path}: build the enclave where its secrets are, and sign it")
    return tuple(found)


def _within(mesh: Mesh, named: Iterable[Path]) -> tuple[Path, ...]:
    """The files of a mesh folder that are named, one by one."""
    home = mesh.folder.resolve()
    found = {file.resolve() for path in named for file in _files(path)}
    return tuple(mesh.folder / file.relative_to(home) for file in sorted(found) if file.is_relative_to(home))


def _paths(table: Mapping[str, object]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _paths(value)
        elif isinstance(value, str) and value and name not in _ELSEWHERE:
            yield value


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (each for each in path.rglob("*") if each.is_file())
