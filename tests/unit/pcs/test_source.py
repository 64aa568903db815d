from __future__ import annotations

import pytest

from cloister.errors import InvalidRequest
from cloister.pcs import INTEL_PCS, Source, Wanted

WANTED = Wanted(tee="tdx", fmspc="b0c06f000000", ca="platform")


@pytest.mark.parametrize(
    "url",
    [
        "https://pccs.example:8081",
        "https://pccs.example:8081/",
        "https://pccs.example:8081/sgx/certification/v4",
        "https://pccs.example:8081/sgx/certification/v4/",
        "https://pccs.example:8081/tdx/certification/v4/",
    ],
)
def test_the_address_is_taken_as_other_tools_write_it(url: str) -> None:
    source = Source(url=url)
    base = "https://pccs.example:8081"
    assert source.tcb_info(WANTED) == f"{base}/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard"
    assert source.qe_identity(WANTED) == f"{base}/tdx/certification/v4/qe/identity?update=standard"
    assert source.pck_crl(WANTED) == f"{base}/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
    assert source.root_crl() == f"{base}/sgx/certification/v4/rootcacrl"


def test_intels_own_service_has_the_roots_list_where_its_certificate_says() -> None:
    assert Source(url=INTEL_PCS).root_crl() == "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
    assert Source(url=INTEL_PCS, root_crl_url="https://mirror.example/root.der").root_crl().startswith("https://mirror")


@pytest.mark.attack("G27")
@pytest.mark.parametrize(
    "url",
    [
        "http://pccs.example",
        "http://169.254.169.254/latest",
        "http://127.0.0.1.example",
        "file:///etc/passwd",
        "gopher://pccs.example",
        "https://user:secret@pccs.example",
        "https://user@pccs.example",
        "https://pccs.example/?next=1",
        "https://pccs.example/#top",
        "https://pccs.example/a b",
        "https://pccs.example/..%2f",
        "https://pccs.example:port",
        "https://[::1",
        "https://",
        "pccs.example",
        "",
        "https://pccs.example/sgx/certification/v3/",
        "https://pccs.example\n/",
    ],
    ids=ascii,
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Source(url=url)
    assert refused.value.reason == "pcs.url_invalid"
    assert "secret" not in str(refused.value)


@pytest.mark.attack("G27")
@pytest.mark.parametrize("url", ["http://169.254.169.254/root.der", "file:///root.der", "https://a@b.example/root.der"])
def test_the_roots_list_is_not_fetched_from_anywhere(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Source(url="https://pccs.example", root_crl_url=url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8081", "http://localhost:8081", "http://[::1]:8081"])
def test_on_this_machine_http_will_do(url: str) -> None:
    assert Source(url=url).root_crl().startswith(url)
    assert Source(url="http://pccs.example", plain_http=True).root_crl().startswith("http://pccs.example")


@pytest.mark.parametrize(
    "proxy",
    ["proxy.example:3128", "https://proxy.example:3128", "http://u:p@proxy.example:3128", "http://proxy.example", "x"],
)
def test_a_proxy_is_named_by_its_address(proxy: str) -> None:
    Source(url="https://pccs.example", proxy="http://proxy.example:3128")
    with pytest.raises(InvalidRequest, match="http://host:port"):
        Source(url="https://pccs.example", proxy=proxy)


@pytest.mark.attack("G27")
@pytest.mark.parametrize(
    "changes",
    [
        {"tee": "sev"},
        {"tee": "../sgx"},
        {"fmspc": "B0C06F000000"},
        {"fmspc": "b0c06f00000"},
        {"fmspc": "b0c06f000000&x=1"},
        {"fmspc": "b0c06f00000\n"},
        {"ca": "root"},
        {"update": "late"},
        {"evaluation": 0},
        {"evaluation": 17, "update": "early"},
    ],
    ids=str,
)
def test_nothing_but_a_family_gets_into_a_query(changes: dict[str, object]) -> None:
    good: dict[str, object] = {"tee": "sgx", "fmspc": "b0c06f000000", "ca": "platform"}
    Wanted(**good)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as refused:
        Wanted(**{**good, **changes})  # type: ignore[arg-type]
    assert refused.value.reason == "pcs.request_invalid"
