"""Rules for every test: TLS 1.3 only, no sockets in unit tests, asyncio in debug mode where that is cheap.

And which tests run in one process: those of a file, and all that share the one mesh, so that it is started once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from fakes import signal_stack

# Before anything imports gRPC, which reads it once; kit/lifecycle.py says why.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
os.environ["GRPC_VERBOSITY"] = "NONE"

# How long an example takes is up to whoever else computes here.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

_TESTS = Path(__file__).parent
_DEBUG = "PYTHONASYNCIODEBUG"
_OWN_MESH = frozenset(
    f"tests/mesh/test_{name}.py"
    for name in (
        "canaries",
        "first_mesh_guide",
        "gateways",
        "jobs_under_fire",
        "owning_a_model",
        "revocation",
        "rollout",
        "standby",
        "rotation",
        "trust_domains",
    )
)
"""Files of tests/mesh that start meshes of their own, beside which the others need not wait."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`: in the order of `testpaths`, which has what waits most before what computes most."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "tests/mesh" if file.startswith("tests/mesh/") and file not in _OWN_MESH else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A loop looks at the variable when it is made, which is before any fixture of ours."""
    if any(item.path.is_relative_to(_TESTS / folder) for folder in ("unit", "wire")):
        os.environ[_DEBUG] = "1"
    else:
        os.environ.pop(_DEBUG, None)


@pytest.fixture(autouse=True)
def _no_sockets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.path.is_relative_to(_TESTS / "unit"):
        return

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a unit test opens no socket; tests/wire is for that")

    # A loop makes itself a socket pair, which reaches nobody; connecting and listening is what is forbidden.
    for name in ("connect", "connect_ex", "bind", "listen", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)


@pytest.fixture(autouse=True)
def _no_stale_signal_stack() -> Iterator[None]:
    yield
    signal_stack.forget()
