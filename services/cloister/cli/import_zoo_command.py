"""`cloister model import-zoo`: models that Analytics Zoo or BigDL PPML encrypted, sealed anew.

They are decrypted in memory only, and what lay there is overwritten. What a kill leaves is a part of a sealed file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cloister.cli import identities, model_files, sealed_folder
from cloister.cli.acceptance import check_contents
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, IdentityFolder, MeshFolder, examples
from cloister.cli.output import say, warn
from cloister.cli.preprocessing_options import Precision
from cloister.cli.sealing import seal_into
from cloister.kit.closed_memory import close_memory
from cloister.rpc.files import read_private, read_public
from cloister.seal.keys import Secret
from cloister.seal.model_stream import MemorySource

if TYPE_CHECKING:
    from cloister.compat.zoo.ciphers import Scheme

_MARKS: Final = (".encrypted", ".enc", ".aes", ".crypto", ".cbc")
"""What encrypted files are called behind their names."""
_READ_FROM_MEMORY: Final = (".xml", ".onnx", ".pdmodel")


def add_to(app: typer.Typer) -> None:
    """Add the command to `cloister model`."""
    app.command(
        "import-zoo",
        epilog=examples(
            "cloister model import-zoo model.xml model.bin --name triage --out sealed/triage-1 --secret-file s "
            "--salt-file t",
            "cloister model import-zoo frozen.pb.crypto --name triage --out sealed/triage-1 --data-key-file key.b64",
        ),
    )(import_zoo)


def import_zoo(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, help=f"The encrypted files, or their folder; {', '.join(_MARKS)} at the end goes."),
    ],
    name: Annotated[str, typer.Option(help="Name under which it is served: a-z 0-9 . _ -")],
    out: Annotated[Path, typer.Option(help="Folder to make for the sealed model, its manifest and its key.")],
    version: Annotated[int, typer.Option(min=1, help="Goes up with every new version.")] = 1,
    secret_file: Annotated[
        Path | None, typer.Option(help="File of the secret, mode 0600; asked for if not given.")
    ] = None,
    salt_file: Annotated[Path | None, typer.Option(help="File of the salt, mode 0600; asked for if not given.")] = None,
    data_key_file: Annotated[
        Path | None, typer.Option(help="File of BigDL's data key in base64, mode 0600, in place of secret and salt.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="As for 'cloister model seal'.")] = Precision.F32,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Seal it even if workers as they are here would not serve it.")
    ] = False,
    mesh_folder: MeshFolder = FOLDER,
    identity: IdentityFolder = None,
) -> None:
    """Seal a model anew that Analytics Zoo or BigDL PPML encrypted, on your own machine.

    Which of their schemes it was is found by trying; what comes out must be a model. It is never written in clear. All
    but their GCM and container files can have been changed by others without a trace: look at what the model answers.
    """
    from cloister.compat.zoo.encrypted_model import MAX_FILE_BYTES, decrypted

    close_memory()
    signer = identities.signing_key(identity or Mesh.read(mesh_folder).identity("owner"))
    given = {_unmarked(inner): path for inner, path in model_files.gather(files).items()}
    head = model_files.head(given)
    contents = {inner: memoryview(read_public(path, most_bytes=MAX_FILE_BYTES)) for inner, path in given.items()}
    schemes = _schemes(secret_file, salt_file, data_key_file)
    with decrypted(contents, head, schemes) as model, sealed_folder.made(out):
        say(f"{head} was encrypted with {model.scheme}")
        if not unchecked:
            _check_if_possible(head, model.files)
        sources = {inner: MemorySource(content) for inner, content in model.files.items()}
        seal_into(out, sources, name=name, version=version, signer=signer, precision=precision)


def _unmarked(name: str) -> str:
    mark = PurePosixPath(name).suffix
    return name.removesuffix(mark) if mark in _MARKS else name


def _schemes(secret_file: Path | None, salt_file: Path | None, data_key_file: Path | None) -> Sequence[Scheme]:
    from cloister.compat.zoo.ciphers import schemes_of_data_key, schemes_of_secret

    if data_key_file is None:
        return schemes_of_secret(_secret("secret", secret_file), _secret("salt", salt_file))
    if secret_file is not None or salt_file is not None:
        raise Stop("name a data key, or a secret and a salt: no scheme takes both", ExitCode.USAGE)
    return schemes_of_data_key(_secret("data key", data_key_file))


def _secret(what: str, path: Path | None) -> Secret:
    """From a file, whose last line end is an editor's; or typed, unseen."""
    if path is not None:
        return Secret(read_private(path).removesuffix(b"\n").removesuffix(b"\r"))
    if not sys.stdin.isatty():
        raise Stop(f"nobody is there to type the {what}; name its file with --{what}-file", ExitCode.USAGE)
    return Secret(typer.prompt(f"The {what} it was encrypted with", hide_input=True).encode())


def _check_if_possible(head: str, contents: Mapping[str, memoryview]) -> None:
    if not head.endswith(_READ_FROM_MEMORY):
        warn("Nobody has looked whether workers would serve it: its format is read from files, and none is made here.")
    elif find_spec("openvino") is None:
        warn("Nobody has looked whether workers would serve it: that needs pip install 'cloister[prepare]'.")
    else:
        check_contents(contents)
