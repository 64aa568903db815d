"""The tenants file: what it may say, and what each mistake is called."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest
from cloister.gateway.tenant_file import IssuerTable, KeyTable, TenantsFile, TokenTable

CLUSTER = "demo.cloister.internal"
ANN, BOB = (f"spiffe://{CLUSTER}/client/{name}" for name in ("ann", "bob"))
HASH = "0123456789abcdef" * 4
GOOD = f"""
[tenants.radiology]
models = ["breast-cancer"]
certificates = ["{ANN}"]
rate = 50
[tenants.radiology.keys.0123456789]
sha256 = "{HASH}"
expires = 2027-01-31T00:00:00Z
[tenants.radiology.tokens.staff]
issuer = "hospital"
claim = "department"
value = "radiology"

[tenants.research]
all_models = true
[tenants.research.tokens.lead]
issuer = "hospital"
subject = "lead"

[issuers.hospital]
issuer = "https://login.clinic.example"
audience = "cloister"
jwks_url = "https://login.clinic.example:8443/keys?p=1"
"""
PATH = Path("tenants.toml")


def parsed(text: str) -> TenantsFile:
    return TenantsFile.parse(text.encode(), PATH, CLUSTER)


def test_it_says_who_is_known_by_what_sees_what_and_may_ask_how_much() -> None:
    found = parsed(GOOD)
    radiology = found.tenants["radiology"]
    assert (radiology.models, radiology.all_models, radiology.certificates) == (("breast-cancer",), False, (ANN,))
    assert (radiology.limits.rate, radiology.limits.calls) == (50.0, None)
    assert radiology.keys == {"0123456789": KeyTable(sha256=HASH, expires=datetime(2027, 1, 31, tzinfo=UTC))}
    assert radiology.tokens == {"staff": TokenTable(issuer="hospital", claim="department", value="radiology")}
    assert found.tenants["research"].all_models
    assert found.issuers["hospital"] == IssuerTable(
        issuer="https://login.clinic.example",
        audience="cloister",
        jwks_url="https://login.clinic.example:8443/keys?p=1",
    )
    assert not found.unlisted_certificates
    assert parsed("") == TenantsFile()
    assert parsed("[tenants.a]\nmodels = []").tenants["a"].models == ()


@pytest.mark.attack("J06")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('models = ["breast-cancer"]', "", r"tenants\.radiology: say which models"),
        ("all_models = true", 'all_models = true\nmodels = ["a"]', r"tenants\.research: say which models"),
        ("all_models = true", "all_models = false", r"tenants\.research: say which models"),
        ('models = ["breast-cancer"]', 'models = ["*"]', r"'\*' is no name of a model"),
        ('models = ["breast-cancer"]', 'models = [""]', "'' is no name of a model"),
        ('models = ["breast-cancer"]', 'models = ["a@1"]', "without a version"),
        ('models = ["breast-cancer"]', 'models = "any"', "must be a list of strings"),
        ('models = ["breast-cancer"]', 'model = ["a"]', "unknown key 'tenants.radiology.model'; did you mean models"),
        ("[tenants.radiology]", "[tenants.Radiology]", "'Radiology' is no name"),
        ("[tenants.research]", "[tenants.other]", "take another name"),
        ("[tenants.research]", "[tenants.radiology]", "not TOML"),
        ("[issuers.hospital]", "[issuer.hospital]", "unknown key 'issuer'; did you mean issuers"),
        ("[issuers.hospital]", "[issuers.clinic]", r"there is no \[issuers\.hospital\]"),
        (f'["{ANN}"]', '["spiffe://other.cloister.internal/client/ann"]', "another cluster"),
        (f'["{ANN}"]', f'["spiffe://{CLUSTER}/operator/olga"]', "only a client or an owner"),
        (f'["{ANN}"]', f'["spiffe://{CLUSTER}/tenant/radiology/key/0123456789"]', "not a SPIFFE id"),
        (f'["{ANN}"]', f'["{ANN}", "{ANN}"]', "one certificate is named twice"),
        ("all_models = true", f'all_models = true\ncertificates = ["{ANN}"]', "named twice, in radiology and in res"),
        (f'sha256 = "{HASH}"', 'sha256 = "clk_0123456789_s3cret"', "64 hex digits"),
        (f'sha256 = "{HASH}"', f'sha256 = "{HASH.upper()}"', "64 hex digits"),
        (f'sha256 = "{HASH}"', 'key = "s3cret"', "unknown key"),
        ("keys.0123456789", "keys.staff", "'staff' is no id of a key"),
        ("2027-01-31T00:00:00Z", "2027-01-31T00:00:00", "must be a date and time with its offset"),
        ("2027-01-31T00:00:00Z", '"2027-01-31T00:00:00Z"', "must be a date and time with its offset"),
        ('subject = "lead"', "", "say a subject, or a claim"),
        ('subject = "lead"', 'subject = ""', "say a subject, or a claim"),
        ('subject = "lead"', 'claim = "a"', "say a subject, or a claim"),
        ('subject = "lead"', 'claim = "a"\nvalue = ""', "say a subject, or a claim"),
        ('subject = "lead"', 'claim = "department"\nvalue = "radiology"', "one token rule is named twice"),
        ('value = "radiology"', 'value = "radiology"\nsubject = "x"', "say a subject, or a claim"),
        ('audience = "cloister"', 'audience = ""', "must not be empty"),
        ('audience = "cloister"', "", "audience is missing"),
        ('audience = "cloister"', 'audience = "cloister"\nalgorithms = []', "algorithms must not be empty"),
        ('audience = "cloister"', 'audience = "cloister"\nalgorithms = ["HS256"]', "algorithms: only ES256"),
        ('audience = "cloister"', 'audience = "cloister"\nalgorithms = ["none"]', "algorithms: only ES256"),
        ('audience = "cloister"', 'audience = "cloister"\nmax_life_s = 100000', "max_life_s"),
        ('audience = "cloister"', 'audience = "cloister"\njwks_file = "k.json"', "and not both"),
    ],
)
def test_a_mistake_is_named_and_never_stands_for_everything(old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidRequest, match=says) as raised:
        parsed(GOOD.replace(old, new, 1))
    assert raised.value.reason == "tenants.invalid"
    assert "s3cret" not in str(raised.value)


@pytest.mark.attack("G27")
@pytest.mark.parametrize(
    "url",
    [
        "http://login.clinic.example/keys",
        "file:///etc/passwd",
        "https:///keys",
        "https://user:secret@host/keys",
        "https://user@host/keys",
        "https://host/keys#a",
        "https://host:0/keys",
        "https://host:99999/keys",
        "https://999.1.1.1/keys",
        "https://10.0.0.1.5/keys",
        "https://[v1.a]/keys",
        "https://host/ke ys",
        "https://host\\\\@inside/keys",
        "unix:///run/x.sock",
        "gopher://host/keys",
        "//host/keys",
        "keys.json",
    ],
)
def test_keys_are_asked_for_over_https_and_nothing_else(url: str) -> None:
    with pytest.raises(InvalidRequest, match="jwks_url") as raised:
        parsed(GOOD.replace("https://login.clinic.example:8443/keys?p=1", url))
    assert "secret" not in str(raised.value)
