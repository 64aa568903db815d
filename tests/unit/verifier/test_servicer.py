from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloister.api.v1 import verifier_pb2 as pb
from cloister.errors import Unavailable
from cloister.kit import event_stream
from cloister.verifier.servicer import ROLES
from fakes.verifier_desk import VerifierDesk, verifier_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[VerifierDesk]:
    with verifier_desk(tmp_path) as made:
        yield made


class Stalled:
    """A watcher that never reads."""

    async def write(self, _message: pb.AttestedEvent) -> None:
        await asyncio.Event().wait()


async def test_a_watcher_that_does_not_read_is_cut(desk: VerifierDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "WRITE_S", 0.01)
    context: Any = Stalled()
    served = desk.servicer()
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable) as cut:
            await served.WatchAttested(pb.WatchAttestedRequest(), context)
    assert cut.value.reason == "watcher.cut"


def test_every_call_has_its_roles() -> None:
    methods = pb.DESCRIPTOR.services_by_name["Verifier"].methods
    assert set(ROLES) == {f"/cloister.api.v1.Verifier/{method.name}" for method in methods}
