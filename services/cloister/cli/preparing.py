"""What the commands that prepare models share: extras that may be missing, places for results, words for models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cloister.cli.failures import ExitCode, Stop
from cloister.contract import ModelContract

if TYPE_CHECKING:
    import openvino as ov

_BROUGHT = {
    "openvino": "prepare",
    "torch": "convert",
    "packaging": "convert",
    "nncf": "quantize",
    "jinja2": "enclave",
    "pkcs11": "enclave",
    "pyarrow": "batch",
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


def shapes(model: ov.Model) -> dict[str, str]:
    """What a model takes and gives, for people."""
    from cloister.worker.ports import contract_of

    return described(contract_of(model))


def described(contract: ModelContract) -> dict[str, str]:
    """The same of a contract."""
    sides = (("takes", contract.inputs), ("gives", contract.outputs))
    return {
        side: ", ".join(f"{spec.name} {spec.datatype} {_sizes(spec.shape)}" for spec in specs) for side, specs in sides
    }


def _sizes(shape: tuple[int, ...] | None) -> str:
    return "of any shape" if shape is None else "x".join("?" if size < 0 else str(size) for size in shape) or "scalar"
