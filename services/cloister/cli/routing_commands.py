"""`cloister model default` and `label`: which version answers clients that name none, or a label.

They write the file that the gateway's settings name as `routing`. Every gateway process that reads it goes by it within
a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.failures import Stop
from cloister.cli.gateway_files import file_named
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, MeshFolder, examples
from cloister.cli.output import print_json, say, table
from cloister.cli.settings_text import ROUTING
from cloister.errors import InvalidRequest
from cloister.gateway.routing import LABEL, VERSION, Routing
from cloister.rpc.files import read_public, replace_public

NEWEST = "newest"
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]


def add_to(app: typer.Typer) -> None:
    """Give the `model` command these parts."""
    app.command(epilog=examples("cloister model default iris 2", "cloister model default iris newest"))(default)
    app.command(
        epilog=examples("cloister model label iris stable=2 canary=3", "cloister model label iris --drop canary")
    )(label)
    app.command(epilog=examples("cloister model routing", "cloister model routing --json"))(routing)


def default(
    name: Model,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version, or 'newest'.")],
    mesh_folder: MeshFolder = FOLDER,
) -> None:
    """Choose the version that answers where a client names none. Nothing under way is dropped.

    'newest' leaves it to the gateways: the newest version that all workers of the model serve.
    """
    chosen = "" if version == NEWEST else _version(version)
    path, before = _read(Mesh.read(mesh_folder))
    _write(path, before.with_default(name, chosen))
    say(f"default of {name}: {chosen or 'the newest that all its workers serve'}", "bold")


def label(
    name: Model,
    labels: Annotated[list[str] | None, typer.Argument(metavar="LABEL=VERSION...", help="Such as stable=2.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A label to take away; may be repeated.")] = None,
    mesh_folder: MeshFolder = FOLDER,
) -> None:
    """Say which versions the labels of a model stand for; clients ask for a label as they ask for a version."""
    if not labels and not drop:
        raise typer.BadParameter("name at least one LABEL=VERSION, or --drop LABEL")
    path, before = _read(Mesh.read(mesh_folder))
    pairs = [_pair(each) for each in labels or ()]
    changes = dict(pairs)
    if len({*changes, *(drop or ())}) < len(pairs) + len(drop or ()):
        raise typer.BadParameter("a label is named twice; say once what it is to stand for")
    unknown = [each for each in drop or () if each not in before.of(name).labels]
    if unknown:
        raise Stop(f"{name} has no label '{unknown[0][:80]}'; 'cloister model routing' shows those it has")
    after = before.with_labels(name, {**changes, **dict.fromkeys(drop or (), "")})
    _write(path, after)
    say(f"labels of {name}: {_labels(after, name) or 'none'}", "bold")


def routing(mesh_folder: MeshFolder = FOLDER, as_json: AsJson = False) -> None:
    """Show defaults and labels of all models."""
    _, found = _read(Mesh.read(mesh_folder))
    if as_json:
        models = found.models.items()
        print_json({name: {"default": each.default, "labels": dict(each.labels)} for name, each in models})
        return
    rows = [(name, each.default or NEWEST, _labels(found, name)) for name, each in sorted(found.models.items())]
    table(("model", "default", "labels"), rows)
    if not rows:
        say("every model is answered by the newest version that all its workers serve")


def _labels(found: Routing, name: str) -> str:
    return " ".join(f"{label}={version}" for label, version in sorted(found.of(name).labels.items()))


def _pair(text: str) -> tuple[str, str]:
    word, equals, version = text.partition("=")
    if not equals or not LABEL.fullmatch(word):
        raise typer.BadParameter(
            f"'{text[:80]}' is not LABEL=VERSION; a label has a-z 0-9 _ - and begins with a letter"
        )
    return word, _version(version)


def _version(text: str) -> str:
    if not VERSION.fullmatch(text):
        raise typer.BadParameter(f"'{text[:80]}' is no version: a number from 1")
    return text


def _read(mesh: Mesh) -> tuple[Path, Routing]:
    path = file_named(mesh, "routing", ROUTING)
    try:
        return path, Routing.parse(read_public(path)) if path.exists() else Routing()
    except InvalidRequest as error:
        raise Stop(f"{path} makes no sense and is left as it is: {error} ({error.reason})") from error


def _write(path: Path, content: Routing) -> None:
    try:
        replace_public(path, content.encode())
    except OSError as error:
        raise Stop(f"{path} cannot be written: {error.strerror}") from error
