"""How much one tenant may have under way."""

from __future__ import annotations

import pytest

from cloister.errors import Overloaded
from cloister.gateway import tenants as module
from cloister.gateway.limits import Limits, TenantLimits, TenantTable
from cloister.gateway.tenants import Tenants


def counted(calls: int, total_bytes: int) -> Tenants:
    return Tenants(Limits(TenantLimits(calls=calls)), total_bytes)


def test_each_tenant_has_its_own_count() -> None:
    tenants = counted(2, 1000)
    tenants.enter("a", 1, 0.0)
    tenants.enter("a", 1, 0.0)
    with pytest.raises(Overloaded) as caught:
        tenants.enter("a", 1, 0.0)
    assert caught.value.reason == "tenant.busy"
    tenants.enter("b", 1, 0.0)
    tenants.leave("a", 1)
    tenants.enter("a", 1, 0.0)


def test_a_tenant_without_calls_is_forgotten() -> None:
    tenants = counted(2, 1000)
    tenants.enter("a", 5, 0.0)
    assert tenants.under_way("a") == 1
    tenants.leave("a", 5)
    assert tenants.under_way("a") == 0
    with pytest.raises(KeyError):
        tenants.leave("a", 5)


def test_one_tenant_holds_at_most_half_of_the_bytes() -> None:
    tenants = counted(9, 100)
    tenants.enter("a", 50, 0.0)
    with pytest.raises(Overloaded, match="too many bytes"):
        tenants.enter("a", 1, 0.0)
    tenants.enter("b", 50, 0.0)
    with pytest.raises(Overloaded) as caught:
        tenants.enter("c", 1, 0.0)
    assert caught.value.reason == "gateway.full"
    tenants.leave("b", 50)
    tenants.enter("c", 1, 0.0)


def test_a_single_large_request_is_let_in_when_there_is_nothing_else() -> None:
    tenants = counted(9, 100)
    tenants.enter("a", 200, 0.0)
    with pytest.raises(Overloaded):
        tenants.enter("b", 1, 0.0)
    tenants.leave("a", 200)
    tenants.enter("b", 1, 0.0)


def paced(rate: float, burst: int) -> Tenants:
    return Tenants(Limits(TenantLimits(calls=9, rate=rate, burst=burst)), 1000)


def test_each_tenant_has_its_own_rate() -> None:
    tenants = paced(1.0, 2)
    for _ in range(2):
        tenants.enter("a", 1, 0.0)
        tenants.leave("a", 1)
    with pytest.raises(Overloaded) as caught:
        tenants.enter("a", 1, 0.5)
    assert (caught.value.reason, caught.value.retry_after_s) == ("tenant.too_fast", 0.5)
    tenants.enter("b", 1, 0.5)
    tenants.enter("a", 1, 1.0)


def test_a_call_that_asks_for_many_takes_a_token_for_each() -> None:
    tenants = paced(10.0, 8)
    tenants.enter("a", 1, 0.0)
    assert tenants.take("a", 5, 0.0) == (5, 0.0)
    taken, wait_s = tenants.take("a", 5, 0.0)
    assert (taken, round(wait_s, 3)) == (2, 0.1)
    free = Tenants(Limits(TenantLimits(calls=9)), 1000)
    free.enter("a", 1, 0.0)
    assert free.take("a", 1023, 0.0) == (1023, 0.0)


@pytest.mark.attack("G26")
def test_a_tenant_gets_no_new_tokens_by_having_nothing_under_way_nor_by_crowding_others_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_SWEEP_AT", 4)
    tenants = paced(0.001, 1)
    for name in ["a", *map(str, range(50))]:
        tenants.enter(name, 1, 0.0)
        tenants.leave(name, 1)
    with pytest.raises(Overloaded):
        tenants.enter("a", 1, 1.0)


def test_tenants_with_a_rate_are_forgotten_once_their_tokens_are_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_AT", 4)
    tenants = paced(1.0, 1)
    for number in range(1000):
        tenants.enter(str(number), 1, number * 10.0)
        tenants.leave(str(number), 1)
        assert len(tenants._held) <= 8


@pytest.mark.attack("G26")
def test_sizes_beyond_any_number_of_bits_are_refused_and_leave_nothing() -> None:
    tenants = counted(9, 1000)
    tenants.enter("a", 1, 0.0)
    for size in (1 << 31, 1 << 63, 1 << 64, 1 << 200):
        with pytest.raises(Overloaded):
            tenants.enter("a", size, 0.0)
    tenants.enter("b", 500, 0.0)
    tenants.leave("a", 1)
    tenants.leave("b", 500)
    assert (tenants.busy(), tenants._bytes) == ({}, 0)


def test_a_share_is_what_the_settings_say() -> None:
    tenants = Tenants(Limits(TenantLimits(calls=9), {"a": TenantTable(share=4)}), 1000)
    tenants.enter("a", 1, 0.0)
    tenants.enter("b", 1, 0.0)
    assert (tenants.share("a"), tenants.share("b")) == (4, 1)


def test_other_limits_hold_at_once_and_count_what_is_under_way() -> None:
    tenants = Tenants(Limits(TenantLimits(calls=2), {"a": TenantTable(rate=1.0, burst=1)}), 1000)
    tenants.enter("a", 1, 0.0)
    tenants.enter("b", 1, 0.0)
    with pytest.raises(Overloaded):
        tenants.enter("a", 1, 0.0)
    tenants.use(Limits(TenantLimits(calls=1), {"a": TenantTable(calls=3, rate=1.0, burst=1, share=2)}))
    with pytest.raises(Overloaded) as raised:  # the same rate: the token that was taken stays taken
        tenants.enter("a", 1, 0.0)
    assert raised.value.reason == "tenant.too_fast"
    assert tenants.share("a") == 2
    with pytest.raises(Overloaded) as raised:
        tenants.enter("b", 1, 0.0)
    assert raised.value.reason == "tenant.busy"
    tenants.use(Limits(TenantLimits(calls=2)))
    tenants.enter("a", 1, 0.0)
    for name in ("a", "a", "b"):
        tenants.leave(name, 1)
    assert tenants.busy() == {}
