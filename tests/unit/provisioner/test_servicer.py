from __future__ import annotations

from cloister.api.v1 import provisioner_pb2 as pb
from cloister.provisioner.servicer import ROLES


def test_every_call_has_its_roles() -> None:
    methods = pb.DESCRIPTOR.services_by_name["Provisioner"].methods
    assert set(ROLES) == {f"/cloister.api.v1.Provisioner/{method.name}" for method in methods}
