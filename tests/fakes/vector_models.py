"""The models of `tests/vectors/models`: their files as they are sealed, and what their own frameworks answer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "vectors" / "models"
ANSWERS = "answers.npz"
SERVED = sorted(path.parent.name for path in FOLDER.glob(f"*/{ANSWERS}"))


@dataclass(frozen=True)
class VectorModel:
    """A model of some framework.

    Attributes:
        head: What OpenVINO reads in process: a file, or a SavedModel's folder.
        inputs: By the names that its users know.
        outputs: What its own framework answered, likewise.
    """

    head: Path
    files: dict[str, memoryview]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def files_of(name: str) -> dict[str, memoryview]:
    folder = FOLDER / name
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ANSWERS)
    return {path.relative_to(folder).as_posix(): memoryview(path.read_bytes()) for path in paths}


def vector_model(name: str) -> VectorModel:
    folder, files = FOLDER / name, files_of(name)
    head = folder if "saved_model.pb" in files else folder / next(each for each in files if "param" not in each)
    arrays = dict(np.load(folder / ANSWERS))
    sides = {
        side: {key[len(side) :]: arrays[key] for key in arrays if key.startswith(side)} for side in ("in:", "out:")
    }
    return VectorModel(head, files, sides["in:"], sides["out:"])
