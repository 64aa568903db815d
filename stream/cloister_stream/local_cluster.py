"""A session cluster on this machine, its processes held: what the demonstration and the tests run, and kill.

Flink's own scripts start them, in the foreground, and become Java.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cloister.errors import CloisterError, Unavailable
from cloister_stream.cluster_settings import RestAccess
from cloister_stream.flink_home import FlinkHome
from cloister_stream.rest import Rest

START_S: Final = 120.0
STOP_S: Final = 20.0
JOB_MANAGER, TASK_MANAGER = "jobmanager", "taskmanager"


class LocalCluster:
    """One JobManager, one TaskManager; `running` starts them.

    Args:
        home: Flink.
        conf: Folder of its config.yaml.
        work: For their output.
    """

    def __init__(self, home: FlinkHome, conf: Path, work: Path) -> None:
        self.conf = conf
        self._home = home
        self._work = work
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def access(self) -> RestAccess:
        """What its REST interface is called with."""
        return RestAccess.of(self.conf)

    def pid(self, name: str) -> int:
        """Of the JobManager or the TaskManager."""
        return self._processes[name].pid

    def start(self, *names: str) -> float:
        """Start processes that do not run, and wait until the TaskManager is known to the JobManager.

        Returns:
            How long it took, in seconds.

        Raises:
            Unavailable: It does not come up.
        """
        began = time.monotonic()
        for name in names or (JOB_MANAGER, TASK_MANAGER):
            self._processes[name] = self._started(name)
        while not self._ready():
            if time.monotonic() - began > START_S:
                raise Unavailable(f"Flink did not start within {START_S:.0f} s: see {self._work}")
            time.sleep(0.2)
        return time.monotonic() - began

    def kill(self, *names: str) -> None:
        """SIGKILL, with the Python processes of the functions, which are in the TaskManager's group."""
        for name in names or tuple(self._processes):
            self._end(self._processes.pop(name), signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM to what runs, and SIGKILL to what then still does."""
        for process in self._processes.values():
            process.terminate()
        for name in tuple(self._processes):
            process = self._processes.pop(name)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            self._end(process, signal.SIGKILL)

    def _started(self, name: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "FLINK_CONF_DIR": str(self.conf)}
        command = [str(self._home.path / "bin" / f"{name}.sh"), "start-foreground"]
        with (self._work / f"{name}.out").open("ab") as out:
            return subprocess.Popen(  # noqa: S603  # Flink's own script
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise Unavailable(f"Flink's {name} ended with {process.returncode}: see {self._work / name}.out")
        try:
            with Rest(self.access) as rest:
                return rest.task_managers() == 1
        except CloisterError:
            return False

    def _end(self, process: subprocess.Popen[bytes], how: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        process.wait()


@contextmanager
def running(home: FlinkHome, conf: Path, work: Path) -> Iterator[LocalCluster]:
    """A cluster that is up for as long as the block lasts."""
    cluster = LocalCluster(home, conf, work)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
