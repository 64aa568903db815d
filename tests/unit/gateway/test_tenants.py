"""How much one tenant may have under way."""

from __future__ import annotations

import pytest

from cloister.errors import Overloaded
from cloister.gateway.tenants import Tenants


def test_each_tenant_has_its_own_count() -> None:
    tenants = Tenants(2, 1000)
    tenants.enter("a", 1)
    tenants.enter("a", 1)
    with pytest.raises(Overloaded) as caught:
        tenants.enter("a", 1)
    assert caught.value.reason == "tenant.busy"
    tenants.enter("b", 1)
    tenants.leave("a", 1)
    tenants.enter("a", 1)


def test_a_tenant_without_calls_is_forgotten() -> None:
    tenants = Tenants(2, 1000)
    tenants.enter("a", 5)
    assert tenants.under_way("a") == 1
    tenants.leave("a", 5)
    assert tenants.under_way("a") == 0
    with pytest.raises(KeyError):
        tenants.leave("a", 5)


def test_one_tenant_holds_at_most_half_of_the_bytes() -> None:
    tenants = Tenants(9, 100)
    tenants.enter("a", 50)
    with pytest.raises(Overloaded, match="too much under way"):
        tenants.enter("a", 1)
    tenants.enter("b", 50)
    with pytest.raises(Overloaded) as caught:
        tenants.enter("c", 1)
    assert caught.value.reason == "gateway.full"
    tenants.leave("b", 50)
    tenants.enter("c", 1)


def test_a_single_large_request_is_let_in_when_there_is_nothing_else() -> None:
    tenants = Tenants(9, 100)
    tenants.enter("a", 200)
    with pytest.raises(Overloaded):
        tenants.enter("b", 1)
    tenants.leave("a", 200)
    tenants.enter("b", 1)
