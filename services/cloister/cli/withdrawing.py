"""What `cloister revoke` does to models and versions: their owner withdraws them at the provisioner."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cloister.api.v1.provisioner_pb2 import Withdrawal
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.reaching import reached
from cloister.client import lift_withdrawal, withdrawals
from cloister.client import withdraw as withdraw_it
from cloister.client.withdrawing import lift_payload
from cloister.kit.withdrawal import Withdrawn

KINDS = ("model", "version")


def named(kind: str, value: str) -> Withdrawn:
    """What is meant by a value of this kind; raises Stop where it is of the other."""
    what = Withdrawn.read(value)
    if what.kind != kind:
        wanted = "NAME@VERSION, such as iris@2" if kind == "version" else "a name without a version, such as iris"
        raise Stop(f"a {kind} is named by {wanted}", ExitCode.USAGE)
    return what


def withdraw(mesh: Mesh, identity: Path | None, what: Withdrawn, reason: str) -> tuple[int, int]:
    """Withdraw as the owner or as another identity; returns the number of the line, and how many leases went."""

    async def call() -> tuple[int, int]:
        async with reached(mesh, identity or mesh.identity("owner"), "provisioner", mesh.provisioner) as provisioner:
            answer = await withdraw_it(provisioner, what, reason)
            return answer.audit_sequence, answer.leases

    return asyncio.run(call())


def lift(mesh: Mesh, identity: Path | None, what: Withdrawn, reason: str, order: bytes) -> int:
    """Give it back; returns the number of the line."""

    async def call() -> int:
        async with reached(mesh, identity or mesh.identity("owner"), "provisioner", mesh.provisioner) as provisioner:
            return (await lift_withdrawal(provisioner, what, reason, order)).audit_sequence

    return asyncio.run(call())


async def listed(mesh: Mesh, identity: Path) -> list[Withdrawal]:
    """What is withdrawn, as far as this identity may know."""
    async with reached(mesh, identity, "provisioner", mesh.provisioner) as provisioner:
        return await withdrawals(provisioner)


def order_payload(mesh: Mesh, identity: Path | None, what: Withdrawn) -> bytes:
    """What people sign to have this withdrawal lifted; raises Stop where there is none."""

    async def call() -> bytes:
        async with reached(mesh, identity or mesh.identity("owner"), "provisioner", mesh.provisioner) as provisioner:
            for each in await withdrawals(provisioner):
                if (each.model_name, each.model_version) == what:
                    return await lift_payload(provisioner, mesh.cluster, each)
        raise Stop(f"{what} is not withdrawn; 'cloister revoke list' tells what is")

    return asyncio.run(call())


def what_of(withdrawal: Withdrawal) -> Withdrawn:
    """What a withdrawal that was listed is of."""
    return Withdrawn(withdrawal.model_name, withdrawal.model_version)
