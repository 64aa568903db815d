"""Services as processes of an enclave: what its host says beyond what the manifest lets it ends them (attack I02)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

import pytest

from cloister.kit.environment import FIXED, LABEL, SETTINGS_FILE, TLS_ENVIRONMENT

SERVICES = ("worker", "verifier", "provisioner", "gateway")
SETTINGS = ("--settings", str(SETTINGS_FILE))
HOSTILE = {
    "LD_BIND_NOW": "1",
    "PYTHONPATH": "/mnt/s3cret",
    "PYTHONSTARTUP": "/mnt/s3cret.py",
    "OPENVINO_LOG_LEVEL": "s3cret",
    "GRPC_TRACE": "s3cret",
    "HTTPS_PROXY": "http://s3cret:3128",
    "no_proxy": "s3cret",
    "LANGUAGE": "s3cret",
    "MALLOC_PERTURB_": "s3cret",
    "SSL_CERT_FILE": "/mnt/s3cret.pem",
    "CLOISTER_QUOTER": "s3cret",
    "CLOISTER_PROVISIONER_LISTEN": "s3cret",
    "X\n\x1b[31mforged": "s3cret",
}


def environment(service: str) -> dict[str, str]:
    """Every variable that a manifest may fix."""
    return {**dict.fromkeys(FIXED, ""), "LC_ALL": "C.UTF-8", **TLS_ENVIRONMENT, LABEL: f"{service} hardened"}


async def run(
    service: str, environ: Mapping[str, str], *words: str, python: tuple[str, ...] = ("-I",)
) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *python, "-m", f"cloister.{service}", *words),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.attack("I02")
@pytest.mark.parametrize("service", SERVICES)
async def test_what_the_manifest_fixes_is_as_far_as_its_settings(service: str) -> None:
    """They are not there on this machine; that they were looked for shows that all else was let pass."""
    code, out, err = await run(service, environment(service), *SETTINGS)
    assert (code, out) == (2, "")
    assert err == f"cloister-{service}: {SETTINGS_FILE}: cannot be read: No such file or directory\n"


@pytest.mark.attack("I02")
@pytest.mark.parametrize("service", SERVICES)
async def test_a_variable_that_nobody_fixed_ends_every_service(service: str) -> None:
    environ = {**environment(service), "LD_PRELOAD_32": "s3cret"}
    code, out, err = await run(service, environ, *SETTINGS)
    says = "is neither fixed by the manifest nor the host's to choose"
    assert (code, out, err) == (2, "", f"cloister-{service}: environment: 'LD_PRELOAD_32' {says}\n")


@pytest.mark.attack("I02")
@pytest.mark.parametrize("name", HOSTILE)
async def test_no_hostile_variable_gets_in(name: str) -> None:
    code, out, err = await run("worker", {**environment("worker"), name: HOSTILE[name]}, *SETTINGS)
    assert (code, out) == (2, "")
    assert err.startswith(f"cloister-worker: environment: {name!a} ")
    assert (err.count("\n"), "s3cret" in err, err.isascii()) == (1, False, True)


@pytest.mark.attack("I02")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--settings", "/cloister/mesh/../host/x"), "--settings is /cloister/mesh/settings.toml and nothing else"),
        ((), "--settings is /cloister/mesh/settings.toml and nothing else"),
        ((*SETTINGS, "--listen", "0.0.0.0:1"), "unrecognized arguments"),
    ],
)
async def test_arguments_are_the_measured_settings_and_no_more(words: tuple[str, ...], says: str) -> None:
    code, out, err = await run("provisioner", environment("provisioner"), *words)
    assert (code, out, says in err) == (2, "", True), err


@pytest.mark.attack("I02")
async def test_a_python_that_is_not_isolated_serves_nobody() -> None:
    code, out, err = await run("worker", environment("worker"), *SETTINGS, python=("-P",))
    assert (code, out, err) == (2, "", "cloister-worker: inside an enclave Python is started with -I\n")


@pytest.mark.attack("I02")
async def test_outside_an_enclave_the_environment_is_the_operators() -> None:
    environ = {**TLS_ENVIRONMENT, **HOSTILE, "LD_BIND_NOW": "1"}
    code, _, err = await run("worker", environ, "--settings", "/nonexistent/settings.toml")
    assert (code, err) == (
        2,
        "cloister-worker: /nonexistent/settings.toml: cannot be read: No such file or directory\n",
    )
