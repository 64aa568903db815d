"""What `cloister status` finds out of a running mesh, and how it says it to a person."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from cloister.cli import lease_words
from cloister.cli.mesh_folder import Mesh
from cloister.cli.output import instant, say, table, warn
from cloister.cli.probes import LOST, OTHER, SERVICES, Probes
from cloister.cli.programs import REDIS
from cloister.cli.worker_words import COLUMNS, facts_of, row_of

HTTPS = "gateway, HTTPS"
SIMULATED = (
    "Workers are simulated: no SGX, and evidence that is worth nothing against whoever owns this machine. "
    "For development only."
)


async def status_of(mesh: Mesh, further: Mapping[str, str], https: str, *, keeps_jobs: bool = False) -> dict[str, Any]:
    """Ask each service, and the gateway for all it knows.

    Args:
        mesh: Which.
        further: Gateways beside the first, by name.
        https: Where the gateway answers HTTPS; empty for nowhere.
        keeps_jobs: Whether a Redis of the mesh's own runs.
    """
    addresses = {"verifier": mesh.verifier, **mesh.provisioners, "gateway": mesh.gateway}
    async with Probes.opened(mesh) as probes:
        async with asyncio.TaskGroup() as group:
            health = {service: group.create_task(probes.serving(service)) for service in SERVICES}
            keepers = {
                name: group.create_task(probes.provisioner_serving(at)) for name, at in mesh.provisioners.items()
            }
            asked = {name: group.create_task(probes.not_serving(at)) for name, at in mesh.provisioners.items()}
            others = {name: group.create_task(probes.gateway_serving(further[name])) for name in further}
            redis = group.create_task(probes.redis_serving()) if keeps_jobs else None
        serving = {service: task.result() for service, task in {**health, **others, **keepers}.items()}
        why = {name: task.result() for name, task in asked.items()}
        gateway = await probes.status() if serving["gateway"] else None
        models = await probes.models() if health["provisioner"].result() else ()
        over_https = bool(https) and gateway is not None and await probes.https_serving(https)
    workers = gateway.workers if gateway else ()
    return {
        "cluster": mesh.cluster,
        "simulated": mesh.simulated,
        "services": [
            {
                "service": service,
                "address": address,
                "serving": serving[service],
                **_why(*why.get(service, ("", ""))),
            }
            for service, address in {**addresses, **further}.items()
        ]
        + ([_plain(HTTPS, f"https://{https}", over_https)] if https else [])
        + ([_plain(REDIS, mesh.redis, redis.result())] if redis else []),
        "workers": [{**facts_of(worker), "attested_until": instant(worker.attested_until_ms)} for worker in workers],
        "leases": lease_words.told(models),
        "requests": {
            "total": gateway.requests_total if gateway else None,
            "failed": gateway.requests_failed_total if gateway else None,
            "queued": gateway.queued if gateway else None,
            "process": gateway.process if gateway else None,
            "of_processes": gateway.processes if gateway else None,
        },
        "models": [
            {
                "name": model.model_name,
                "queued": model.queued,
                "slots_used": model.slots_used,
                "slot_ms": round(model.slot_ms, 3),
                "refused": dict(model.refused),
            }
            for model in (gateway.models if gateway else ())
        ],
        "tenants": [
            {
                "tenant": tenant.tenant,
                "under_way": tenant.under_way,
                "queued": tenant.queued,
                "answered": tenant.answered_total,
                "failed": tenant.failed_total,
                "refused": dict(tenant.refused),
            }
            for tenant in (gateway.tenants if gateway else ())
        ],
        "jobs": {
            "state": gateway.jobs if gateway else None,
            "queues": [
                {
                    "model": queue.model_name,
                    "waiting": queue.waiting,
                    "running": queue.running,
                    "bytes": queue.bytes,
                    "oldest_s": round(queue.oldest_s, 1),
                    "dead": queue.dead,
                }
                for queue in (gateway.job_queues if gateway else ())
            ],
        },
    }


def print_status(mesh: Mesh, found: dict[str, Any]) -> None:
    """For a person."""
    say(f"mesh {mesh.cluster}", "bold")
    processes = {process["name"]: process for process in found["processes"]}
    rows = [(each["service"], each["address"], _health(each), _process(processes, each)) for each in found["services"]]
    table(("service", "address", "health", "process"), rows)
    for each in found["services"]:
        if said := each["standing_by"] or each["why"]:
            say(f"{each['service']}: {said}")
    say("")
    if found["workers"]:
        table(COLUMNS, [row_of(worker) for worker in found["workers"]])
    else:
        say("no worker is attested now; 'cloister audit list --record appraisals' says who was refused or revoked, why")
    print_leases(found["leases"])
    requests = found["requests"]
    if requests["total"] is not None:
        over = " over gRPC" if any(each["service"] == HTTPS for each in found["services"]) else ""
        counted = f"requests{over}: {requests['total']}, of which failed {requests['failed']}; "
        counted += f"queued now {requests['queued']}"
        if requests["of_processes"] > 1:
            counted += (
                f" (in process {requests['process']} of the gateway's {requests['of_processes']}; each counts alone)"
            )
        say(f"\n{counted}")
    for tenant in found["tenants"]:
        if tenant["refused"]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tenant["refused"].items()))
            say(f"refused to {tenant['tenant']}: {reasons}")
    print_jobs(found["jobs"])
    if mesh.simulated:
        warn(SIMULATED)


def print_leases(leases: list[dict[str, Any]]) -> None:
    """Models whose keys are out, until when, and those that are withdrawn."""
    if leases:
        say("")
        table(("key of", *lease_words.COLUMNS), [(each["model"], *lease_words.cells(each)) for each in leases])


def print_jobs(jobs: dict[str, Any]) -> None:
    """Queues that there are, and why jobs are not taken where they should be."""
    if jobs["queues"]:
        say("")
        table(
            ("jobs for", "waiting", "running", "oldest", "dead letters"),
            [(q["model"], q["waiting"], q["running"], f"{q['oldest_s']:g} s", q["dead"]) for q in jobs["queues"]],
        )
    if jobs["state"] not in (None, "ready", "jobs.off"):
        warn(f"No jobs are taken now: {jobs['state']}; the gateway's log says more.")


def _plain(service: str, address: str, serving: bool) -> dict[str, Any]:
    return {"service": service, "address": address, "serving": serving, **_why("", "")}


def _why(reason: str, said: str) -> dict[str, str]:
    """Of a provisioner that does not serve: that it stands by, or what it waits for."""
    return {
        "standing_by": said if reason == OTHER else "",
        "reason": reason,
        "why": said if reason != OTHER else "",
    }


def _health(service: dict[str, Any]) -> str:
    if service["standing_by"]:
        return "standing by"
    if service["reason"] == LOST:
        return "waits for shares"
    return "serving" if service["serving"] else "not serving"


def _process(processes: dict[str, Any], service: dict[str, Any]) -> str:
    process = processes.get("gateway" if service["service"] == HTTPS else service["service"])
    if process is None:
        return "not ours"
    what = f", enclave {process['enclave']}" if process["enclave"] else ""
    return f"pid {process['pid']}{what}" if process["pid"] else "starts again"
