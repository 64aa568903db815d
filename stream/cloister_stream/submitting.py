"""How a job begins, or goes on: from its last checkpoint where there is one, and never over results of another run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloister.errors import AlreadyExists, NotReady
from cloister_stream.asking import Asking
from cloister_stream.cluster_settings import RestAccess
from cloister_stream.files import HIDDEN, header_of
from cloister_stream.rest import Rest
from cloister_stream.settings import Settings

JOB: Final = Path(__file__).with_name("job.py")
METADATA: Final = "_metadata"
"""Flink writes it into a checkpoint's folder last."""
_TRACE: Final = re.compile(r"\s+(at |\.\.\. )")


def submit(file: Path, settings: Settings, conf: Path, flink_home: Path) -> str:
    """Hand the job to the cluster; returns its id.

    Raises:
        CloisterError: The mesh does not know the model or this identity, or there are no records: as `Asking`.
        AlreadyExists: This job is running (`job.running`), or its output is of a run that has ended (`output.taken`).
        NotReady: Flink did not take it (`job.refused`).
    """
    with Asking(settings, header_of(settings.input)):
        pass  # whatever is wrong with these settings is told here, and not by a job that restarts
    with Rest(RestAccess.of(conf)) as rest:
        if running := rest.running(settings.job_name):
            raise AlreadyExists(f"this job is running, as {running[0]}", reason="job.running")
    checkpoint = newest_checkpoint(settings.checkpoints)
    if checkpoint is None and (there := written(settings.output)):
        raise AlreadyExists(
            f"{settings.output} holds the output of a run that has ended ({there[0].name}); name another folder",
            reason="output.taken",
        )
    return _submitted(command(file, checkpoint, flink_home), conf)


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest that is complete; None where there is none."""
    complete = list(folder.glob(f"*/chk-*/{METADATA}"))
    return max(complete, key=lambda metadata: metadata.stat().st_mtime_ns).parent if complete else None


def written(folder: Path) -> list[Path]:
    """Output in its place; what Flink still writes is hidden."""
    return sorted(path for path in folder.glob("*.jsonl") if not path.name.startswith(HIDDEN))


def command(file: Path, checkpoint: Path | None, flink_home: Path) -> Sequence[str]:
    """Flink's own command line. A checkpoint is claimed: it ends with the first that comes after it."""
    going_on = () if checkpoint is None else ("--fromSavepoint", checkpoint.as_uri(), "-claimMode", "CLAIM")
    flink = str(flink_home / "bin" / "flink")
    return (flink, "run", "--detached", *going_on, "--python", str(JOB), str(file.absolute()))


def _submitted(words: Sequence[str], conf: Path) -> str:
    environment = {**os.environ, "FLINK_CONF_DIR": str(conf.absolute())}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)  # noqa: S603  # ours
    for line in done.stdout.splitlines():
        _, found, job_id = line.partition("has been submitted with JobID ")
        if found:
            return job_id.strip()
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and not _TRACE.match(line)]
    raise NotReady(f"Flink did not take the job: {' '.join(said[-3:])[-500:]}", reason="job.refused")
