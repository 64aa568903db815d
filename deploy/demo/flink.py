"""A Flink cluster asks a whole mesh on this machine, is killed in the middle, and loses nothing: `make flink-demo`.

A real session cluster from Flink's wheel, TLS 1.3 with client certificates between its processes and at its REST
interface; the records are the demonstration's patients, each asked about many times, so that there is something to
interrupt and to measure. Then it prints what a record costs, process by process.

    python deploy/demo/flink.py [--turns 36] [--in-flight 16 64 256]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import train
from benchmarks import processes
from demo import REPOSITORY, allow, found, say_what_is_simulated, seal_and_publish, start_over
from flink_costs import OF_THE_MESH, Cost, Functions, Timed, print_costs
from rich.text import Text
from stage import Failed, console, run, running, serving, step, title, wait_for

from cloister.cli.ports import free_ports
from cloister_stream import local_cluster
from cloister_stream.flink_home import FlinkHome
from cloister_stream.local_cluster import JOB_MANAGER, TASK_MANAGER, LocalCluster
from cloister_stream.rest import ENDED, Rest

FOLDER = Path(".demo-flink")
FLINK_BIN = REPOSITORY / ".venv-flink" / "bin"
FILES = 4
SHORT_TURNS = 2
JOB_S = 300.0
BROKEN = ('{"id": "no-json"', '{"measurements": [1.0]}', '{"id": "too-short", "measurements": [1.0, 2.0]}')


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=36, help="how often each of the 569 patients is asked about")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16, 64, 256], help="requests under way")
    chosen = parser.parse_args()
    os.chdir(REPOSITORY)
    try:
        tell(FOLDER.absolute(), chosen.turns, chosen.in_flight)
    except Failed as error:
        console.print(Text.assemble(("failed: ", "bold red"), str(error)))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def tell(folder: Path, turns: int, in_flight: Sequence[int]) -> None:
    """From nothing to nothing."""
    start_over(folder)
    mesh = folder / "mesh"
    say_what_is_simulated()
    title("A mesh that serves a model")
    seen, _ = train.split()
    files = train.save(train.build(train.train(seen)), folder / "model")
    found(mesh)
    with running(mesh, workers=0):
        seal_and_publish(mesh, files, folder / "sealed")
        allow(mesh)
    with running(mesh):
        wait_for(lambda: serving(mesh, f"{train.MODEL_NAME}@1"), "both workers to serve the model")
        title("A Flink cluster")
        with cluster_of(folder) as cluster:
            stage = Stage(folder, mesh, cluster)
            title("What a record costs")
            print_costs(stage.measured(turns, in_flight))
            title("Killed in the middle")
            stage.killed(turns)
    step("everything", f"has stopped; nothing was left running. What this run made is in {FOLDER}")


@contextmanager
def cluster_of(folder: Path) -> Iterator[LocalCluster]:
    """Configured with the key stores that `cloister init` made, and up for as long as the block lasts."""
    conf, work = folder / "conf", folder / "flink"
    work.mkdir()
    rpc, rest = free_ports(2, first=9000)
    stores = ("--stores", folder / "mesh" / "flink")
    ports = ("--rpc-port", rpc, "--rest-port", rest)
    run(FLINK_BIN / "cloister-stream", "configure", "--conf", conf, "--work", work, *stores, *ports)
    began = time.monotonic()
    with local_cluster.running(flink_home(), conf, work) as cluster:
        step("Flink", f"JobManager and TaskManager are up after {time.monotonic() - began:.1f} s, TLS 1.3 between them")
        yield cluster


def flink_home() -> FlinkHome:
    """In the environment that `make` made for it."""
    homes = sorted((REPOSITORY / ".venv-flink").glob("lib/python*/site-packages/pyflink"))
    if not homes:
        raise Failed("Flink is not installed: 'make flink-demo' does it")
    return FlinkHome(homes[0])


class Stage:
    """Jobs on one cluster and one mesh."""

    def __init__(self, folder: Path, mesh: Path, cluster: LocalCluster) -> None:
        self._folder = folder
        self._mesh = mesh
        self._cluster = cluster
        self._address = json.loads((mesh / "run" / "up.json").read_text())["programs"]

    def measured(self, turns: int, in_flight: Sequence[int]) -> list[Cost]:
        """A short job, then a long one for each number: what lies between them is the records' doing."""
        self._timed("first", SHORT_TURNS, in_flight[0])  # Java compiles what it runs often
        short = self._timed("short", SHORT_TURNS, in_flight[0])
        step("Flink", f"{short.records} records in {short.took_s:.1f} s, which is its start")
        costs = []
        for each in in_flight:
            long = self._timed(f"long-{each}", turns, each)
            more = long.records - short.records
            rate = more / (long.took_s - short.took_s)
            step("Flink", f"{each} under way: {long.records} records in {long.took_s:.1f} s, each once")
            cpu_ms = {name: (long.cpu_s[name] - short.cpu_s[name]) / more * 1000 for name in long.cpu_s}
            costs.append(Cost(each, long.records, rate, cpu_ms))
        return costs

    def killed(self, turns: int) -> None:
        """A job whose TaskManager is killed, then the whole cluster; and the same job submitted once more."""
        name = "killed"
        expected = self._write_records(name, turns) + len(BROKEN)
        (self._folder / name / "input" / "broken.jsonl").write_text("\n".join(BROKEN) + "\n")
        self._submit(name, 8)  # slowly, so that there is something left to kill
        self._until_written(name, expected // 10)
        self._cluster.kill(TASK_MANAGER)
        killed_at = len(self._written(name))
        step("nobody", f"killed the TaskManager with SIGKILL; {killed_at} records had their line")
        self._cluster.start(TASK_MANAGER)
        self._until_written(name, killed_at + 1)
        self._cluster.kill()
        step("nobody", f"killed the JobManager too; {len(self._written(name))} records had their line")
        self._cluster.start()
        self._until_ended(self._submit(name, 256))
        self._check(name, expected)
        failures = [json.loads(line) for line in lines_of(self._folder / name / "output", "failures")]
        for each in failures:
            console.print(f"           {each['key']!s:10} {each['reason']:18} {each['error']}")
        command = ("submit", self._settings(name), "--conf", self._cluster.conf)
        try:
            run(FLINK_BIN / "cloister-stream", *command)
        except Failed as refused:
            step("data owner", f"submitted it once more, and was refused: {str(refused).partition('error: ')[2]}")
        else:
            raise Failed("a job was run again over its own output")

    def _timed(self, name: str, turns: int, in_flight: int) -> Timed:
        expected = self._write_records(name, turns)
        before, functions = self._cpu_s(), Functions(self._cluster.pid(TASK_MANAGER))
        took_s = self._until_ended(self._submit(name, in_flight), functions.watched_s)
        used_s = {part: now_s - before[part] for part, now_s in self._cpu_s().items()}
        used_s["functions (Python, with the SDK)"] = functions.watched_s()
        self._check(name, expected)
        return Timed(expected, took_s, used_s)

    def _cpu_s(self) -> dict[str, float]:
        """So far, by process that outlives a job."""
        found = {}
        for name, shown in ((JOB_MANAGER, "JobManager (Java)"), (TASK_MANAGER, "TaskManager (Java)")):
            stat = Path(f"/proc/{self._cluster.pid(name)}/stat").read_text()
            found[shown] = processes.parsed_cpu_s(stat, children=False)
        for program in self._address:
            name = "workers" if program["service"] == "worker" else program["service"]
            if name in OF_THE_MESH:
                found[name] = found.get(name, 0.0) + processes.cpu_s(program["pid"])
        return found

    def _write_records(self, name: str, turns: int) -> int:
        """Patients, in a few files; each has a name for each turn."""
        place = self._folder / name / "input"
        place.mkdir(parents=True)
        seen, held_out = train.split()
        measurements = np.concatenate([seen.measurements, held_out.measurements])
        for number in range(FILES):
            with (place / f"{number}.jsonl").open("w") as file:
                for turn in range(number, turns, FILES):
                    for patient, row in enumerate(measurements):
                        file.write(json.dumps({"id": f"{patient}/{turn}", "measurements": row.tolist()}) + "\n")
        return turns * len(measurements)

    def _settings(self, name: str) -> Path:
        return self._folder / name / "job.toml"

    def _submit(self, name: str, in_flight: int) -> str:
        gateway = next(program["address"] for program in self._address if program["service"] == "gateway")
        self._settings(name).write_text(
            f'gateway = ["{gateway}"]\ntrust = "../mesh/trust.json"\nidentity = "../mesh/identities/client/main"\n'
            f'model = "{train.MODEL_NAME}"\ninput = "input"\noutput = "output"\ncheckpoints = "checkpoints"\n'
            f"in_flight = {in_flight}\ncheckpoint_s = 1.0\n"
        )
        return run(FLINK_BIN / "cloister-stream", "submit", self._settings(name), "--conf", self._cluster.conf).strip()

    def _until_ended(self, job: str, look: Callable[[], object] = lambda: None) -> float:
        """Wait for it, and look meanwhile; returns how long it ran, in seconds."""
        until = time.monotonic() + JOB_S
        with Rest(self._cluster.access) as rest:
            while (state := rest.state(job)) not in ENDED:
                if time.monotonic() > until:
                    raise Failed(f"the job did not end within {JOB_S:.0f} s")
                look()
                time.sleep(0.1)
            if state != "FINISHED":
                raise Failed(f"the job is {state}: see {self._folder / 'flink' / 'log'}")
            return float(rest.get(f"/jobs/{job}")["duration"]) / 1000

    def _until_written(self, name: str, count: int) -> None:
        until = time.monotonic() + JOB_S
        while len(self._written(name)) < count:
            if time.monotonic() > until:
                raise Failed(f"{count} records were not written within {JOB_S:.0f} s")
            time.sleep(0.2)

    def _written(self, name: str) -> list[str]:
        output = self._folder / name / "output"
        return [*lines_of(output, "results"), *lines_of(output, "failures")]

    def _check(self, name: str, expected: int) -> None:
        """Each record once: as a result or as a failure."""
        keys = Counter(json.loads(line)["key"] for line in lines_of(self._folder / name / "output", "results"))
        failures = lines_of(self._folder / name / "output", "failures")
        twice = [key for key, count in keys.items() if count > 1]
        if twice or len(keys) + len(failures) != expected:
            raise Failed(f"{expected} records, {len(keys)} results, {len(failures)} failures, {len(twice)} twice")
        if failures:
            step("Flink", f"{expected} records: {len(keys)} results, {len(failures)} failures, none lost, none twice")


def lines_of(output: Path, kind: str) -> list[str]:
    """What stands in files that are in their place."""
    return [line for path in sorted(output.glob(f"{kind}-*.jsonl")) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
