"""`cloister kubernetes`: a mesh folder as a kustomization, for the manifests of deploy/kubernetes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import tomlkit
import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.named_files import named_files
from cloister.cli.options import FOLDER, MeshArgument, examples
from cloister.cli.output import say, warn

FILE: Final = "kustomization.yaml"
SERVICES: Final = ("verifier", "provisioner", "gateway", "worker")
_ADDRESSES: Final = {"verifier": "verifier:8442", "provisioner": "provisioner:8444"}
"""Of the services in deploy/kubernetes/base, in the workers' own namespace."""
_MOST_BYTES: Final = 1 << 20
"""Of a Secret, whatever holds it."""
_HEAD: Final = """\
# Made by 'cloister kubernetes'; make it anew when a file of this mesh is added. 'kubectl apply -k' on this folder
# puts the mesh into the cluster. It names the folder's secrets and has none of them.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: cloister
resources:
  - {manifests}
secretGenerator:
"""


def add_to(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command(
        epilog=examples(
            "cloister kubernetes .cloister --manifests deploy/kubernetes/overlays/laptop",
            "cloister kubernetes mesh --manifests https://git.example.org/cloister//deploy/kubernetes/overlays/sgx?ref=v1",
        )
    )(kubernetes)


def kubernetes(
    folder: MeshArgument = FOLDER,
    manifests: Annotated[
        str,
        typer.Option(metavar="OVERLAY", help="Folder or address of the overlay, one of deploy/kubernetes/overlays."),
    ] = "deploy/kubernetes/overlays/sgx",
) -> None:
    """Write DIR/kustomization.yaml, by which each service's secrets and settings get into a Kubernetes cluster.

    Each pod is given the files that its own settings name and no others. Addresses in the settings are those of this
    machine, and the manifests put the cluster's in their place; a worker's are measured, so they are changed here, in
    DIR/worker/settings.toml: build enclaves afterwards, and found another mesh for 'cloister up'.
    """
    mesh = Mesh.read(folder)
    _address(mesh.settings("worker"))
    where = manifests if "://" in manifests else _relative(Path(manifests), mesh.folder)
    wanted = (*SERVICES, "redis") if mesh.redis_folder.is_dir() else SERVICES
    text = _HEAD.format(manifests=where) + "".join(_secret(mesh, service) for service in wanted)
    (mesh.folder / FILE).write_text(text)
    say(f"{mesh.folder / FILE} describes the secrets of {', '.join(wanted)}")
    if mesh.simulated:
        warn("The workers of this mesh are simulated: whoever runs the cluster can read models and requests.")
    say(f"next: kubectl apply -k {mesh.folder}")


def _address(settings: Path) -> None:
    values = tomlkit.parse(settings.read_text(encoding="utf-8"))
    for name, address in _ADDRESSES.items():
        values[name] = address
    settings.write_text(tomlkit.dumps(values), encoding="utf-8")


def _relative(overlay: Path, folder: Path) -> str:
    if not (overlay / FILE).is_file():
        raise Stop(f"{overlay} is no overlay; name one of deploy/kubernetes/overlays", ExitCode.USAGE)
    return os.path.relpath(overlay.resolve(), folder.resolve())


def _secret(mesh: Mesh, service: str) -> str:
    rows = sorted(_rows(mesh, service))
    return "".join([f"  - name: {service}-mesh\n    files:\n", *(f"      - {key}={path}\n" for key, path in rows)])


def _rows(mesh: Mesh, service: str) -> Iterator[tuple[str, str]]:
    total = 0
    for path in named_files(mesh, service):
        total += path.stat().st_size
        name = path.relative_to(mesh.folder).as_posix()
        yield name.replace("/", ".."), name
    if total > _MOST_BYTES:
        raise Stop(f"what the settings of the {service} name is larger than the 1 MiB that a Secret may hold")
