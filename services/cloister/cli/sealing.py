"""The last step of the commands that seal a model, wherever its files came from: into its folder, and said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloister.cli import sealed_folder
from cloister.cli.output import facts, progress_bytes, say
from cloister.cli.preprocessing_options import Precision
from cloister.client.owner import seal_to
from cloister.seal.manifest import ModelManifest
from cloister.seal.model_stream import SeekableSource


def seal_into(
    out: Path,
    files: Mapping[str, Path | SeekableSource],
    *,
    name: str,
    version: int,
    signer: Ed25519PrivateKey,
    precision: Precision,
    preprocessing: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Seal files into a folder that `sealed_folder.made` has made, as `client.seal_to`, and say what came of it."""
    with progress_bytes("sealing", sum(map(_size_bytes, files.values()))) as progress:
        sealed = seal_to(
            out / sealed_folder.SEALED,
            files,
            name=name,
            version=version,
            signer=signer,
            precision=precision.value,
            preprocessing=preprocessing,
            progress=lambda done, _: progress.update(progress.task_ids[0], completed=done),
        )
    sealed_folder.write(out, sealed)
    say(f"sealed {name}@{version} in {out}", "bold")
    facts(_described(sealed.manifest), indent="  ")
    say(f"next: cloister model publish {out}")


def _size_bytes(source: Path | SeekableSource) -> int:
    return source.stat().st_size if isinstance(source, Path) else source.seek(0, 2)


def _described(found: ModelManifest) -> dict[str, object]:
    return {
        "digest": found.digest.hex(),
        "size": f"{found.size_bytes} bytes",
        "files": ", ".join(f"{name} ({size} bytes)" for name, size in found.files),
        "precision": found.precision,
        **{f"input {name}": steps for name, steps in found.preprocessing},
    }
