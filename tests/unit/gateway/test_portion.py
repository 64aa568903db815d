"""What one of several processes enforces of a gateway's limits."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cloister.gateway.limits import ModelLimits, ModelTable, TenantLimits, TenantTable
from cloister.gateway.portion import DIVIDED, REST, RUNNER, part_of, portion
from cloister.gateway.settings import Settings
from cloister.kit.shared_port import Place
from cloister.rpc.identity import TlsFiles

TLS = TlsFiles(certificate=Path("c"), private_key=Path("k"), trust_roots=Path("r"))


def settings(**changes: object) -> Settings:
    fixed = {"cluster": "demo.cloister.internal", "listen": ":1", "verifier": ":2", "tls": TLS}
    return Settings(**{**fixed, **changes})  # type: ignore[arg-type]


def test_a_gateway_that_is_one_process_keeps_its_settings() -> None:
    whole = settings()
    assert portion(whole, None) is whole


def test_processes_divide_every_limit_and_together_have_no_less() -> None:
    whole = settings(processes=3, tenant_limit=128, metrics_listen="127.0.0.1:9100", operator_listen="[::1]:9200")
    parts = [portion(whole, Place(number, 3, 5)) for number in (1, 2, 3)]
    for field in DIVIDED:
        limit = getattr(whole, field)
        assert limit <= sum(getattr(part, field) for part in parts) < limit + 3
    assert [part.metrics_listen for part in parts] == ["127.0.0.1:9100", "127.0.0.1:9101", "127.0.0.1:9102"]
    assert [part.operator_listen for part in parts] == ["[::1]:9200", "[::1]:9201", "[::1]:9202"]


def test_processes_for_https_listen_behind_the_others() -> None:
    whole = settings(processes=2, rest_processes=2, metrics_listen="h:9100", operator_listen="h:9200")
    parts = [portion(whole, Place(number, 2, 5, REST)) for number in (1, 2)]
    assert [(part.metrics_listen, part.operator_listen) for part in parts] == [
        ("h:9102", "h:9202"),
        ("h:9103", "h:9203"),
    ]


@pytest.mark.parametrize(("rest_listen", "page"), [("", "h:9102"), (":8441", "h:9105")])
def test_who_gives_jobs_to_workers_has_its_page_behind_all_others(rest_listen: str, page: str) -> None:
    whole = settings(processes=2, rest_listen=rest_listen, rest_processes=3, metrics_listen="h:9100")
    part = portion(whole, Place(1, 1, None, RUNNER))
    assert part.metrics_listen == page
    assert part.queue_limit == whole.queue_limit


@pytest.mark.parametrize("name", ["rest_listen", "operator_listen"])
def test_an_address_that_is_none_is_told_by_the_name_of_its_setting(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be host:port"):
        settings(**{name: "8441"})


@pytest.mark.parametrize("listen", ["", "127.0.0.1:0", "no address"])
def test_no_page_or_one_on_any_port_stays_as_it_is(listen: str) -> None:
    assert portion(settings(metrics_listen=listen), Place(2, 3, 5)).metrics_listen == listen


def test_limits_of_one_request_are_not_divided() -> None:
    changed = {
        field.name
        for field in fields(Settings)
        if getattr(settings(), field.name) != getattr(portion(settings(), Place(1, 2, 5)), field.name)
    }
    assert changed == set(DIVIDED)


def test_what_a_tenant_or_a_model_has_of_its_own_is_divided_too() -> None:
    whole = settings(processes=2, tenant_rate=5.0, models={"tiny": ModelTable(queue=5, slots=3)})
    part = portion(whole, Place(1, 2, 5))
    assert part.tenant_limits() == TenantLimits(calls=64, rate=2.5)
    assert part_of(TenantTable(calls=9, rate=3.0, share=4), 2) == TenantTable(calls=5, rate=1.5, share=4)
    assert part.model_limits().of("tiny") == ModelLimits(queue=3, slots=2)


def test_https_has_its_own_address_page_and_limits() -> None:
    whole = settings(processes=2, rest_listen=":8441", rest_processes=2, metrics_listen="127.0.0.1:9100")
    parts = [portion(whole, Place(number, 2, 5, REST)) for number in (1, 2)]
    assert [(part.listen, part.metrics_listen) for part in parts] == [
        (":8441", "127.0.0.1:9102"),
        (":8441", "127.0.0.1:9103"),
    ]
    assert [part.tenant_limit for part in parts] == [64, 64]
