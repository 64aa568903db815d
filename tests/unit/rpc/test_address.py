"""host:port, and what gRPC would take for an address beside it."""

from __future__ import annotations

import pytest

from cloister.rpc.address import check_address


@pytest.mark.parametrize("address", ["10.0.0.7:8443", "worker-1.mesh.internal:65535", "[fd00::1]:1", "[::]:8443"])
def test_an_address(address: str) -> None:
    check_address(address)
    check_address(address, any_port=True)


def test_port_0_is_for_who_listens() -> None:
    check_address("127.0.0.1:0", any_port=True)
    with pytest.raises(ValueError, match="must be host:port"):
        check_address("127.0.0.1:0")


@pytest.mark.attack("G27")
@pytest.mark.attack("I02")
@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        ":8443",
        "host:65536",
        "host:-1",
        "unix:8443",
        "UNIX:8443",
        "dns:8443",
        "xds:8443",
        "vsock:8443",
        "unix:/run/docker.sock",
        "dns:///host:8443",
        "ipv4:10.0.0.7:8443",
        "host:8443,other:8443",
        "user@host:8443",
        "host:8443/path",
        "host:8443\n",
        "ho\x1b[31mst:8443",
        "-host:8443",
        "h" * 300 + ":8443",
        "höst:8443",
    ],
)
def test_nothing_else_is_one(address: str) -> None:
    for any_port in (False, True):
        with pytest.raises(ValueError, match="must be host:port"):
            check_address(address, any_port=any_port)
