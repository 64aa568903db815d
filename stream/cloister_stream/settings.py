"""Settings of the job: one TOML file, as every service of Cloister has, or `CLOISTER_STREAM_*` in the environment.

They go into the job's graph, so they hold no secret: only where trust bundle and identity lie. Those are read where
the job runs, on each TaskManager, under the same path as where it is submitted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloister.kit.config import load
from cloister.rpc.address import check_address

PREFIX: Final = "CLOISTER_STREAM_"
MAX_IN_FLIGHT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one job does.

    Attributes:
        gateway: host:port of the mesh's gateways; the first is asked while it can be reached, then the next.
        trust: Trust bundle: whom the job believes.
        identity: Folder of a client's identity in the mesh.
        model: Name of the model that is asked.
        version: Of the model, or a label; empty for the mesh's default version.
        input: A file of records, or a folder of such files; `.csv` files and JSON lines, never both.
        key: The member or column that names a record, in results and failures too.
        output: Folder for `results-*.jsonl` and `failures-*.jsonl`.
        checkpoints: Folder of the checkpoints that the job goes on from; on a disk that every TaskManager has.
        in_flight: Records under way at once, in each of `parallelism` parts.
        parallelism: Parts that ask side by side, each in a Python process of its own.
        deadline_s: How long a record is asked again, while what it fails by may pass.
        checkpoint_s: Seconds between checkpoints; results are there once the checkpoint after them is.
    """

    gateway: tuple[str, ...]
    trust: Path
    identity: Path
    model: str
    version: str = ""
    input: Path
    key: str = "id"
    output: Path
    checkpoints: Path
    in_flight: int = 64
    parallelism: int = 1
    deadline_s: float = 300.0
    checkpoint_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.gateway:
            raise ValueError("gateway: name at least one")
        for address in self.gateway:
            check_address(address)
        if not self.model:
            raise ValueError("model: is empty")
        if not self.key:
            raise ValueError("key: is empty")
        if not 1 <= self.in_flight <= MAX_IN_FLIGHT:
            raise ValueError(f"in_flight: must be 1 to {MAX_IN_FLIGHT}")
        if not 1 <= self.parallelism <= 1024:
            raise ValueError("parallelism: must be 1 to 1024")
        if not 1 <= self.deadline_s <= 86_400:
            raise ValueError("deadline_s: must be 1 to 86400")
        if not 0.1 <= self.checkpoint_s <= 3600:
            raise ValueError("checkpoint_s: must be 0.1 to 3600")

    @property
    def job_name(self) -> str:
        """What Flink calls the job: one at a time may write into a folder."""
        return f"cloister {self.model} into {self.output}"

    @classmethod
    def read(cls, file: Path) -> Settings:
        """Read them; raises InvalidRequest (`settings.invalid`) with what is wrong."""
        return load(cls, file.absolute(), os.environ, prefix=PREFIX)
