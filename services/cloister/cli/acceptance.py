"""Whether workers would serve a model, found out on its owner's machine, and said in full.

A worker that refuses a sealed model says three words of it and nothing of the model, since its log is its host's. Here
the same code looks at the same files, and its owner is told which part it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloister.cli.preparing import extras
from cloister.contract import ModelContract
from cloister.errors import InvalidRequest

if TYPE_CHECKING:
    import openvino as ov

_MOST_OF_OPENVINO: Final = 500
"""Characters that are shown of what OpenVINO says."""


def check_accepted(files: Mapping[str, Path]) -> ModelContract:
    """As `check_contents`, of files."""
    return check_contents({name: memoryview(path.read_bytes()) for name, path in files.items()})


def check_contents(contents: Mapping[str, memoryview]) -> ModelContract:
    """Look at a model as a worker does when it loads one, to the point where it could answer.

    Args:
        contents: All of it, by names inside.

    Returns:
        What it takes and gives.

    Raises:
        InvalidRequest: Workers refuse it, for the same reason; the message says which part it is.
        NotReady: Its format is read from a folder in memory, and there is none on this machine.
    """
    with extras("prepare"):
        import openvino as ov

        from cloister.worker.compiling import BASE_CONFIG
        from cloister.worker.models import read
        from cloister.worker.ports import contract_of
        from cloister.worker.refusals import ModelRefused, refused
        from cloister.worker.shapes import ShapeGuard
    try:
        model, _ = read(contents)
        contract = contract_of(model)
        ShapeGuard(model.clone(), contract)
        try:
            ov.Core().compile_model(model, "CPU", dict(BASE_CONFIG))
        except RuntimeError:
            raise refused("OpenVINO cannot compile it") from None
    except InvalidRequest as error:
        why = error.why if isinstance(error, ModelRefused) else str(error)
        raise InvalidRequest(f"workers would not serve this: {why}{_quoted(error)}", reason=error.reason) from error
    return contract


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


def _quoted(error: InvalidRequest) -> str:
    """What OpenVINO itself said, where that is behind it."""
    said = error.__context__
    if not isinstance(said, RuntimeError):
        return ""
    return f"; OpenVINO says: {' '.join(str(said).split())[:_MOST_OF_OPENVINO]}"
