"""Ask a model about every record of a folder of Parquet files, by Ray Data.

    python ask_records.py MESH MODEL RECORDS ANSWERS

Each actor is a client of the mesh: it judges the workers before it seals anything to them. The most requests under way
are ACTORS x IN_FLIGHT, whatever the size of the data. What passes is asked again by the client; what does not ends the
job. ANSWERS appears when it is whole.
"""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers of each cluster
import ray
from pyarrow.compute import count_distinct
from pyarrow.dataset import dataset
from ray.data import ActorPoolStrategy

from cloister import SyncClient

ACTORS, IN_FLIGHT = 2, 8
ROWS = 64  # of one request


class Ask:
    """One actor: a client that stays."""

    def __init__(self, folder: str, model: str) -> None:
        self._mesh = ExitStack().enter_context(SyncClient.of_mesh(folder, timeout_s=60))
        self._model = model
        self._input = self._mesh.contract(model).inputs[0].name

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answers to a batch of records, with the keys of those."""
        records = np.stack(batch[self._input])
        asked = [{self._input: records[i : i + ROWS]} for i in range(0, len(records), ROWS)]
        answers = self._mesh.infer_many(self._model, asked, concurrency=IN_FLIGHT)
        names = answers[0].outputs
        return {"id": batch["id"], **{name: np.concatenate([each.outputs[name] for each in answers]) for name in names}}


def main(folder: str, model: str, records: str, answers: str) -> None:
    """Ask, count, and put the answers in their place."""
    place, unfinished = Path(answers).absolute(), Path(f"{answers}.unfinished").absolute()
    if place.exists() or unfinished.exists():
        raise SystemExit(f"{answers}: there are answers already; move them away")
    ask = {"fn_constructor_args": (str(Path(folder).absolute()), model), "num_cpus": 0.5}
    asked = ray.data.read_parquet(str(Path(records).absolute()))
    asked.map_batches(Ask, batch_size=512, compute=ActorPoolStrategy(size=ACTORS), **ask).write_parquet(str(unfinished))
    wanted, written = (dataset(each).to_table(columns=["id"])["id"] for each in (records, unfinished))
    if not len(wanted) == len(written) == count_distinct(written).as_py():
        raise SystemExit(f"{len(wanted)} records, {len(written)} answers: see {unfinished}")
    unfinished.rename(place)
    print(len(written), "records, each with its answer")


if __name__ == "__main__":
    main(*sys.argv[1:])
