"""`cloister kubernetes`: a mesh folder as a kustomization, for the manifests of deploy/kubernetes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import tomlkit
import typer

from cloister.cli.kustomization import FILE, Rows, reference, references, secret_generator
from cloister.cli.mesh_folder import Mesh
from cloister.cli.named_files import importer_files, named_files, sealed_files
from cloister.cli.options import FOLDER, MeshArgument, examples
from cloister.cli.output import say, warn
from cloister.cli.preparing import extras

SERVICES: Final = ("verifier", "provisioner", "gateway", "worker")
ENCLAVES_WITH_SECRETS: Final = ("verifier", "provisioner")
BRING_IN: Final = "bring-in"
"""Where the secrets of enclaves are described, which are in the cluster only until they were brought in."""
IMPORTER: Final = "importer"
"""Where in a pod's mesh folder what brings them in is put."""
_PAGES: Final = "0.0.0.0:9464"
_ADDRESSES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "verifier": {"listen": "0.0.0.0:8442", "https_listen": "0.0.0.0:8443", "metrics_listen": _PAGES},
        "provisioner": {"listen": "0.0.0.0:8444", "verifier": "verifier:8442", "metrics_listen": _PAGES},
        "worker": {"verifier": "verifier:8442", "provisioner": "provisioner:8444"},
    }
)
"""Of the services in deploy/kubernetes/base, by their settings: those that are measured where they run in enclaves."""
_HEAD: Final = """\
# Made by 'cloister kubernetes'; make it anew when a file of this mesh is added. 'kubectl apply -k' on this folder
# puts the mesh into the cluster. It names the folder's secrets and has none of them.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: cloister
"""
_BRING_IN_HEAD: Final = """\
# Made by 'cloister kubernetes': what the enclaves of this mesh are given once. It names secrets and has none of them.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: cloister
generatorOptions: { disableNameSuffixHash: true }
"""


def add_to(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command(
        epilog=examples(
            "cloister kubernetes .cloister --manifests deploy/kubernetes/overlays/laptop",
            "cloister kubernetes mesh --enclaves enclaves --component deploy/kubernetes/components/redis",
            "cloister kubernetes mesh --enclaves enclaves --manifests https://git.example.org/cloister//deploy/overlay?ref=v1",
        )
    )(kubernetes)


def kubernetes(
    folder: MeshArgument = FOLDER,
    manifests: Annotated[
        str,
        typer.Option(metavar="OVERLAY", help="Folder or address of the overlay, one of deploy/kubernetes/overlays."),
    ] = "deploy/kubernetes/overlays/sgx",
    component: Annotated[
        list[str] | None,
        typer.Option(metavar="COMPONENT", help="What goes with it, of deploy/kubernetes/components; may be repeated."),
    ] = None,
    enclaves: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Enclaves of this mesh, as 'cloister enclave build-mesh' made them."),
    ] = None,
) -> None:
    """Write DIR/kustomization.yaml, by which each service's secrets and settings get into a Kubernetes cluster.

    Each pod is given the files that its own settings name and no others. Addresses in settings that an enclave would
    have measured are changed here to the cluster's: build enclaves afterwards, and found another mesh for 'cloister
    up'. Without --enclaves no more is done to a mesh that is not simulated, for its secrets belong in those alone. With
    --enclaves, secrets that are brought into enclaves are left out, and DIR/bring-in describes them.
    """
    mesh = Mesh.read(folder)
    for service, addresses in _ADDRESSES.items():
        _address(mesh.settings(service), addresses)
    if enclaves is None and not mesh.simulated:
        say(
            f"The settings in {mesh.folder} have the cluster's addresses; secrets are described when there are enclaves"
        )
        say(f"next: cloister enclave build-mesh {mesh.folder} --out enclaves, sign each, then this with --enclaves")
        return
    wanted = (*SERVICES, "redis") if mesh.redis_folder.is_dir() else SERVICES
    brought_in = _bring_in(mesh, enclaves) if enclaves else {}
    secrets = {
        f"{each}-mesh": _rows(mesh, set(named_files(mesh, each)).difference(brought_in.get(each, ())))
        for each in wanted
    }
    text = _HEAD + references("resources", [reference(manifests, mesh.folder)])
    text += references("components", [reference(each, mesh.folder) for each in component or ()])
    (mesh.folder / FILE).write_text(text + secret_generator(secrets, mesh.folder))
    say(f"{mesh.folder / FILE} describes the secrets of {', '.join(wanted)}")
    if mesh.simulated:
        warn("The workers of this mesh are simulated: whoever runs the cluster can read models and requests.")
    say(f"next: kubectl apply -k {mesh.folder}")


def _address(settings: Path, addresses: Mapping[str, str]) -> None:
    values = tomlkit.parse(settings.read_text(encoding="utf-8"))
    for name, address in addresses.items():
        values[name] = address
    settings.write_text(tomlkit.dumps(values), encoding="utf-8")


def _bring_in(mesh: Mesh, enclaves: Path) -> Mapping[str, tuple[Path, ...]]:
    """Describe what is brought into the enclaves of a mesh, and return each one's files.

    What is sealed in one service may be in the clear for others: the verifier's key set is signed, and they read it.
    """
    with extras("enclave"):
        sealed = {each: sealed_files(mesh, each) for each in ENCLAVES_WITH_SECRETS}
        importers = {each: importer_files(enclaves / each) for each in ENCLAVES_WITH_SECRETS}
    secrets: dict[str, Rows] = {}
    for each, files in sealed.items():
        importer = [(f"{IMPORTER}..{path.name}", path) for path in importers[each]]
        secrets[f"{each}-secrets"] = [*_rows(mesh, files), *importer]
    folder = mesh.folder / BRING_IN
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(_BRING_IN_HEAD + secret_generator(secrets, folder))
    say(f"{folder / FILE} describes what is brought into enclaves, once")
    return sealed


def _rows(mesh: Mesh, files: Iterable[Path]) -> Rows:
    """Keys of a Secret have '..' where the mesh folder's paths have '/'."""
    return [(file.relative_to(mesh.folder).as_posix().replace("/", ".."), file) for file in sorted(files)]
