"""What the commands that prepare models share: extras that may be missing, and results that a worker must accept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cloister.cli.failures import ExitCode, Stop
from cloister.errors import InvalidRequest

if TYPE_CHECKING:
    import openvino as ov

_BROUGHT = {
    "openvino": "prepare",
    "torch": "convert",
    "packaging": "convert",
    "nncf": "quantize",
    "jinja2": "enclave",
    "pkcs11": "enclave",
}


@contextmanager
def extras(wanted: str) -> Iterator[None]:
    """Import what comes with `cloister[wanted]`; raises Stop with what to install where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _BROUGHT:
            raise
        raise Stop(f"this needs {missing}, which is not installed: pip install 'cloister[{wanted}]'") from error


def check_out(out: Path) -> None:
    """A result is written to a new .xml, in a folder that can be made; raises Stop before any work is done in vain."""
    if out.suffix != ".xml":
        raise Stop(f"{out} is no name for an OpenVINO model; let it end with .xml", ExitCode.USAGE)
    taken = next((path for path in (out, out.with_suffix(".bin")) if path.exists()), None)
    if taken is not None:
        raise Stop(f"{taken} exists; name another file", ExitCode.USAGE)


def write_accepted(model: ov.Model, out: Path) -> dict[str, Path]:
    """Write `model` as `out` and the .bin beside it, having seen that a worker would accept them.

    Raises:
        InvalidRequest: A worker refuses to serve it; the message says why.
    """
    from cloister.prepare.files import write_ir

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".part-") as part:
        files = write_ir(model, Path(part), out.stem)
        check_accepted(files)
        return {name: Path(shutil.move(path, out.parent / name)) for name, path in files.items()}


def check_accepted(files: Mapping[str, Path]) -> None:
    """Look at a model as a worker does when it loads one; raises InvalidRequest as `cloister.worker.models.read`."""
    from cloister.worker.models import read
    from cloister.worker.ports import contract_of

    try:
        model, _ = read({name: memoryview(path.read_bytes()) for name, path in files.items()})
        contract_of(model)
    except InvalidRequest as error:
        raise InvalidRequest(f"workers would not serve this: {error}", reason=error.reason) from error


def shapes(model: ov.Model) -> dict[str, str]:
    """What a model takes and gives, for people."""
    from cloister.worker.ports import contract_of

    contract = contract_of(model)
    sides = (("takes", contract.inputs), ("gives", contract.outputs))
    return {
        side: ", ".join(f"{spec.name} {spec.datatype} {_sizes(spec.shape)}" for spec in specs) for side, specs in sides
    }


def _sizes(shape: tuple[int, ...] | None) -> str:
    return "of any shape" if shape is None else "x".join("?" if size < 0 else str(size) for size in shape) or "scalar"
