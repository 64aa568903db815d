"""`cloister-worker` as a process, on a machine without SGX: it says so and ends; nothing makes it go on with less."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest


def settings_file(mesh, **changes):
    settings = mesh.settings(**changes)
    lines = [
        f'cluster = "{settings.cluster}"',
        f'verifier = "{settings.verifier}"',
        f'provisioner = "{settings.provisioner}"',
        f'verifier_keys = "{settings.verifier_keys}"',
        'models = ["tiny"]',
        f'model_owners = ["{settings.model_owners[0]}"]',
        f'models_dir = "{settings.models_dir}"',
        "[tls]",
        *(f'{name} = "{getattr(settings.tls, name)}"' for name in ("certificate", "private_key", "trust_roots")),
    ]
    path = mesh.folder / "worker.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


async def run(path, **environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cloister.worker",
        "--settings",
        str(path),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.attack("C12")
async def test_without_an_enclave_it_ends_with_one_clear_line(mesh):
    code, out, err = await run(settings_file(mesh))
    assert code == 1
    (line,) = [json.loads(each) for each in out.splitlines()]
    assert (line["event"], line["level"]) == ("service.failed", "error")
    assert "in an SGX enclave" in line["error"]
    assert (line["reason"], line["exit_code"]) == ("enclave.absent", 1)
    assert err == ""
    assert not mesh.verifier.appraised


@pytest.mark.attack("C12")
@pytest.mark.parametrize(
    ("variable", "said"),
    [("CLOISTER_WORKER_QUOTER", "unknown variable"), ("CLOISTER_WORKER_VERIFIER", "from outside the enclave")],
)
async def test_the_host_has_no_say_through_the_environment(mesh, variable, said):
    code, out, err = await run(settings_file(mesh), **{variable: "simulated"})
    assert code == 2
    assert (variable in err, said in err, out) == (True, True, "")
    assert "simulated" not in err
