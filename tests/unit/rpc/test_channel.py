"""What a client's connections and a server's allow each other."""

from __future__ import annotations

from cloister.kit import server
from cloister.rpc import channel


def test_clients_find_a_silent_host_in_seconds_and_ping_no_more_often_than_servers_take() -> None:
    client, allowed = dict(channel._OPTIONS), dict(server._OPTIONS)
    ping_ms, patience_ms = int(client["grpc.keepalive_time_ms"]), int(client["grpc.keepalive_timeout_ms"])
    assert ping_ms > allowed["grpc.http2.min_ping_interval_without_data_ms"]
    assert patience_ms <= 5_000
    assert ping_ms + patience_ms <= 20_000
