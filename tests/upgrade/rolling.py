"""The roll itself: every program of a mesh replaced under load, one after the other, and back again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fakes.running_mesh import MODEL, probe
from upgrade.askers import Askers, Note, asking
from upgrade.rolling_mesh import PROVISIONERS, RollingMesh
from upgrade.versions import Version

POLICY = "appraisal.toml"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, from its beginning until answers of every kind had come again to every client; Unix times.

    Attributes:
        away_s: How long a program was away; None where none was.
    """

    name: str
    to: str
    began: float
    ended: float
    away_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolled:
    """What was done, and what clients noted.

    Attributes:
        same_code: The two versions' workers measure the same, so that no policy had anything to decide.
        audit: What `cloister audit verify` said at the end, after an auditor had pinned the record at the beginning.
        queued: Jobs that were left in a queue, or that somebody held, at the end.
    """

    steps: Sequence[Step]
    notes: Sequence[Note]
    same_code: bool
    audit: str
    queued: int


class Roll:
    """A mesh under load, between two versions."""

    def __init__(self, mesh: RollingMesh, askers: Askers, report: Report) -> None:
        self._mesh, self._askers, self._report = mesh, askers, report
        self._policy = 1
        self.steps: list[Step] = []

    def over(self, before: Version, after: Version, *, back: bool = False) -> None:
        """Replace everything; verifiers, who understand older workers, before these, and after them on the way back."""
        mesh = self._mesh
        with self._step("its measurement is let in", after):
            self._believe(before, after)
        services = ["verifier", "provisioner", "gateway", "worker"]
        for service in reversed(services) if back else services:
            for name in self._order(service):
                with self._step(f"{name} is replaced", after, name):
                    pass
        mesh.version = after
        with self._step("the other measurement is withdrawn", after):
            self._withdraw(before, after)
        if before.mrenclave != after.mrenclave:
            with self._step("a worker of the other version is refused", after):
                mesh.see_refused(before)

    def _order(self, service: str) -> Sequence[str]:
        names = [each.name for each in self._mesh.of(service)]
        if service != "provisioner":
            return names
        active = self._mesh.active_provisioner()
        return [*(name for name in names if name != active), active]

    def _believe(self, before: Version, after: Version) -> None:
        """Clients first, then whoever hands keys out: no job is sealed where one may open it whom a client refuses."""
        both = sorted({before.mrenclave, after.mrenclave})
        self._clients_believe(both)
        self._askers.more()
        self._appraise(both)
        self._allow(both)

    def _withdraw(self, before: Version, after: Version) -> None:
        """The owner first, then clients: jobs are sealed under a policy that names the new measurement alone."""
        self._allow([after.mrenclave])
        self._askers.more()
        self._clients_believe([after.mrenclave])
        self._appraise([after.mrenclave])

    def _clients_believe(self, measurements: Sequence[str]) -> None:
        self._mesh.cli("trust", "accept", *named(measurements))

    def _allow(self, measurements: Sequence[str]) -> None:
        self._mesh.cli("model", "allow", MODEL, *named(measurements), "--allow-simulated", "--allow-plain")

    def _appraise(self, measurements: Sequence[str]) -> None:
        self._policy += 1
        self._mesh.cli("policy", "apply", write_policy(self._mesh.folder, self._policy, measurements))

    @contextmanager
    def _step(self, name: str, to: Version, replaced: str = "") -> Iterator[None]:
        began, away_s = time.time(), None
        if replaced:
            away_s = self._mesh.replace(replaced, to).away_s
        yield
        self._askers.more()
        self.steps.append(Step(name=name, to=to.name, began=began, ended=time.time(), away_s=away_s))
        self._report(f"{to.name}: {name} ({time.time() - began:.1f} s)")


def named(measurements: Sequence[str]) -> list[str]:
    """As options."""
    return [word for each in measurements for word in ("--mrenclave", each)]


def write_policy(folder: Path, version: int, measurements: Sequence[str]) -> Path:
    """What the verifier appraises workers under: these and no others."""
    rows = "".join(f'\n[[reference_values]]\nmrenclave = "{each}"\n' for each in measurements)
    file = folder / "verifier" / POLICY
    file.write_text(f'policy_id = "workers"\nversion = {version}\n{rows}')
    return file


def founded(folder: Path, old: Version) -> RollingMesh:
    """A mesh as the old version founds it, for its own workers; not started."""
    mesh = RollingMesh(folder, old)
    mesh.found("--provisioners", str(PROVISIONERS), "--mrenclave", old.mrenclave)
    write_policy(folder, 1, [old.mrenclave])
    settings = folder / "verifier" / "settings.toml"
    settings.write_text(f'policy = "{POLICY}"\n{settings.read_text()}')
    return mesh


def rolled(folder: Path, old: Version, new: Version, report: Report) -> Rolled:
    """All of it; raises AssertionError where not even the end was reached."""
    mesh = founded(folder, old)
    with mesh.all_up():
        mesh.cli("model", "publish", mesh.seal(probe()))
        mesh.cli("model", "allow", MODEL, *named([old.mrenclave]), "--allow-simulated", "--allow-plain")
        mesh.until_workers_serve()
        mesh.cli("audit", "verify")  # an auditor, who remembers what there was
        report(f"a mesh of {old.name} serves")
        with asking(mesh, (old, new)) as askers:
            askers.more()
            roll = Roll(mesh, askers, report)
            roll.over(old, new)
            roll.over(new, old, back=True)
            askers.end()
            notes = askers.notes()
        audit, queued = mesh.cli("audit", "verify"), mesh.queued()
    return Rolled(
        steps=roll.steps,
        notes=notes,
        same_code=old.mrenclave == new.mrenclave,
        audit=audit,
        queued=queued,
    )
