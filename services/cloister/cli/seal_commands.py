"""`cloister model check` and `seal`: what an owner does with a model on their own machine, before anybody has it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cloister.cli import identities, model_files, sealed_folder
from cloister.cli.acceptance import check_accepted
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, IdentityFolder, MeshFolder, examples
from cloister.cli.output import facts, say, warn
from cloister.cli.preparing import described
from cloister.cli.preprocessing_options import InputU8, Layout, Mean, Precision, Preprocessing, Resize, Scale
from cloister.cli.sealing import seal_into

Files = Annotated[
    list[Path],
    typer.Argument(exists=True, help="The model's files, such as model.xml and model.bin, or its folder."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `cloister model`."""
    app.command(epilog=examples("cloister model check model.onnx", "cloister model check saved_model/"))(check)
    app.command(
        epilog=examples(
            "cloister model seal model.xml model.bin --name breast-cancer --version 1 --out sealed/breast-cancer-1",
            "cloister model seal saved_model/ --name triage --out sealed/triage-1",
            "cloister model seal model.onnx --name resnet --out sealed/resnet-1 --input-u8 image --layout NHWC:NCHW",
        )
    )(seal)


def check(files: Files) -> None:
    """Say whether workers would serve a model, and if not, which part of it is why.

    A worker that refuses a sealed model keeps that to itself, since its log is its host's.
    """
    given = model_files.gather(files)
    model_files.head(given)
    contract = check_accepted(given)
    say("workers would serve this", "bold green")
    facts(described(contract), indent="  ")


def seal(
    files: Files,
    name: Annotated[str, typer.Option(help="Name under which it is served: a-z 0-9 . _ -")],
    out: Annotated[Path, typer.Option(help="Folder to make for the sealed model, its manifest and its key.")],
    version: Annotated[int, typer.Option(min=1, help="Goes up with every new version.")] = 1,
    precision: Annotated[
        Precision, typer.Option(help="What workers compute in. One whose CPU cannot refuses the model.")
    ] = Precision.F32,
    input_u8: InputU8 = None,
    resize: Resize = None,
    mean: Mean = None,
    scale: Scale = None,
    layout: Layout = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Seal it even if workers as they are here would not serve it.")
    ] = False,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Encrypt a model under a fresh key and sign what it is, on your own machine.

    The key stays in the folder, readable by you alone, until 'publish' hands it to the provisioner. Nothing of the
    model is stored anywhere in clear. Precision and preprocessing are part of what you sign, and clients see them.
    What workers would refuse is not sealed, and you are told why; they would not say.
    """
    signer = identities.signing_key(identity or Mesh.read(mesh_folder).identity("owner"))
    wanted = Preprocessing(input_u8 or (), resize or (), mean or (), scale or (), layout or ())
    given = model_files.gather(files)
    with wanted.compiled_into(model_files.head(given), given) as (inside, preprocessing), sealed_folder.made(out):
        if not unchecked:
            _check_if_possible(inside)
        seal_into(
            out,
            inside,
            name=name,
            version=version,
            signer=signer,
            precision=precision,
            preprocessing=preprocessing,
        )


def _check_if_possible(files: Mapping[str, Path]) -> None:
    if find_spec("openvino") is None:
        warn("Nobody has looked whether workers would serve it: that needs pip install 'cloister[prepare]'.")
        return
    check_accepted(files)
