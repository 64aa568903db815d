"""The mesh of `running_mesh` in enclaves: verifier, provisioner, workers and Redis, each under `gramine-direct`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pytest

from fakes.running_mesh import RunningMesh

ENVIRONMENT = "CLOISTER_TEST_ENCLAVES"
"""Set by `make test-enclave`: the one mesh of tests/mesh then runs in enclaves."""
_REDIS = Path(__file__).parents[2] / "deploy" / "demo" / "shared_state.py"


def mesh_class() -> type[RunningMesh]:
    """What the tests of this run are to have."""
    return EnclaveMesh if os.environ.get(ENVIRONMENT) else RunningMesh


class EnclaveMesh(RunningMesh):
    """A mesh whose programs, but for gateway and console, are enclaves that were built for it."""

    policy_id = "founded"

    @property
    def enclaves(self) -> Path:
        """Where they were built."""
        return self.folder.parent / f"{self.folder.name}-enclaves"

    def found(self) -> None:
        """As without enclaves; then everything is built and believed."""
        for program in ("gramine-direct", "redis-server"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed: this mesh runs in enclaves")
        super().found()
        subprocess.run([sys.executable, _REDIS, self.folder], check=True, timeout=60)
        self.cli("enclave", "build-mesh", self.folder, "--out", self.enclaves)

    @contextmanager
    def up(self, workers: int = 2, *options: str, https: bool = False) -> Iterator[None]:
        """With the enclaves."""
        with super().up(workers, *options, "--enclaves", str(self.enclaves), https=https):
            yield

    @cached_property
    def mrenclave(self) -> str:
        """What the worker was built as."""
        return str(json.loads((self.enclaves / "worker" / "measurement.json").read_text())["mrenclave"])
