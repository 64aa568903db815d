"""A batch over a gateway in a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister.cli.batch.reading import digest_of, stamp_of
from cloister.cli.batch.running import Batch, Report, run
from fakes.folder_jobs import CONTRACT, MODEL, FakeTicket, FolderJobs

Run = Callable[..., Report]


@pytest.fixture
def jobs(tmp_path: Path) -> FolderJobs:
    return FolderJobs(tmp_path)


@pytest.fixture
def run_batch(tmp_path: Path, jobs: FolderJobs) -> Run:
    """Run a batch as the command does: input, name of the output, further members of `Batch`."""

    def running(source: Path, output: str = "out.npz", **more: Any) -> Report:
        contract = more.pop("contract", CONTRACT)
        members: dict[str, Any] = {
            "source": source,
            "output": tmp_path / output,
            "folder": tmp_path / f"{output}.journal",
            "digest": digest_of(source),
            "stamp": stamp_of(source),
            "model": MODEL,
            "cluster": "test",
            "client": "spiffe://test/client/main",
            "timeout_s": 5.0,
        }
        batch = Batch(**(members | more))
        asked = run(batch, jobs, contract, FakeTicket.from_bytes, lambda _rows, _ended: lambda _more: None)
        return asyncio.run(asked)

    return running
