"""Whose tenant an identity is, from one file to the next."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest, NotFound, Unauthenticated
from cloister.gateway.directory import Directory
from cloister.gateway.tenant_file import TenantsFile
from cloister.gateway.wire import Route
from cloister.rpc.spiffe import ROLES, SpiffeId

CLUSTER = "demo.cloister.internal"
ANN, BOB, OLGA = (f"spiffe://{CLUSTER}/{who}" for who in ("client/ann", "client/bob", "operator/olga"))
KEY = f"spiffe://{CLUSTER}/tenant/radiology/key/0123456789"
RULE = f"spiffe://{CLUSTER}/tenant/radiology/token/staff"
FILE = f"""
[tenants.radiology]
models = ["tiny"]
certificates = ["{ANN}"]
[tenants.radiology.keys.0123456789]
sha256 = "{"ab" * 32}"
[tenants.radiology.tokens.staff]
issuer = "hospital"
subject = "ann"
[issuers.hospital]
issuer = "https://login.clinic.example"
audience = "cloister"
jwks_url = "https://login.clinic.example/keys"
"""


def file(text: str = FILE) -> TenantsFile:
    return TenantsFile.parse(text.encode(), Path("tenants.toml"), CLUSTER)


def unknown(directory: Directory, identity: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        directory.of(identity)
    assert raised.value.reason == "tenant.unknown"


def test_without_a_file_every_certificate_is_a_tenant_of_its_own_that_sees_all() -> None:
    directory = Directory(CLUSTER)
    assert (directory.of(ANN).name, directory.of(ANN).models) == (ANN, None)
    unknown(directory, KEY)


def test_every_identity_of_a_tenant_is_that_tenant() -> None:
    directory = Directory(CLUSTER, file())
    assert {directory.of(identity).name for identity in (ANN, KEY, RULE)} == {"radiology"}
    assert directory.of(OLGA).models is None
    unknown(directory, BOB)
    unknown(directory, f"spiffe://{CLUSTER}/tenant/radiology/key/9876543210")


def test_certificates_that_are_not_listed_are_let_in_where_the_file_says_so_and_keys_are_not() -> None:
    directory = Directory(CLUSTER, file("unlisted_certificates = true\n" + FILE))
    assert directory.of(BOB).name == BOB
    unknown(directory, f"spiffe://{CLUSTER}/tenant/radiology/key/9876543210")


def test_no_certificate_bears_the_name_of_a_key_or_a_token() -> None:
    assert "tenant" not in ROLES
    for identity in (KEY, RULE):
        with pytest.raises(InvalidRequest, match="not a SPIFFE id"):
            SpiffeId.parse(identity)


def test_a_model_that_is_not_seen_is_looked_up_by_no_name() -> None:
    tenant = Directory(CLUSTER, file()).of(ANN)
    assert (tenant.seen("tiny"), tenant.seen("secret"), tenant.seen("none")) == ("tiny", "", "")
    assert tenant.seen_route(Route("secret", "3", "r-1", frozenset("a"))) == Route("", "3", "r-1", frozenset("a"))
    route = Route("tiny", "", "", None)
    assert tenant.seen_route(route) is route
    nobody = Directory(CLUSTER, file(FILE.replace('["tiny"]', "[]"))).of(ANN)
    assert not nobody.sees("tiny")


def test_who_asked_once_is_entitled_as_long_as_it_is_a_tenant_that_sees_the_model() -> None:
    directory = Directory(CLUSTER, file())
    directory.check_entitled("radiology", "tiny")
    directory.check_entitled(ANN, "tiny")  # it asked before the file named it
    assert directory.models == {"tiny"}
    with pytest.raises(NotFound):
        directory.check_entitled("radiology", "secret")
    for nobody in ("none", BOB):
        with pytest.raises(Unauthenticated):
            directory.check_entitled(nobody, "tiny")
    directory.use(file("unlisted_certificates = true\n"))
    with pytest.raises(Unauthenticated):
        directory.check_entitled("radiology", "tiny")
    directory.check_entitled(BOB, "any")
    assert directory.models == frozenset()


async def test_whatever_is_open_ends_when_its_identity_is_nobodys_any_more_and_not_before() -> None:
    directory = Directory(CLUSTER, file())
    ended: dict[str, BaseException | None] = {}
    under_way = asyncio.Event()

    async def stream(identity: str) -> None:
        try:
            async with directory.while_known(identity):
                under_way.set()
                await asyncio.Event().wait()
        except ExceptionGroup as group:
            ended[identity] = group.exceptions[0]

    async with asyncio.TaskGroup() as group:
        streams = {identity: group.create_task(stream(identity)) for identity in (ANN, KEY, RULE)}
        await under_way.wait()
        without_key = FILE.replace("[tenants.radiology.keys.0123456789]\n", "").replace(f'sha256 = "{"ab" * 32}"\n', "")
        directory.use(file(without_key))
        await streams[KEY]
        assert set(ended) == {KEY}
        directory.use(file(without_key + "\n[tenants.more]\nmodels = []\n"))
        directory.use(file(""))
    assert set(ended) == {ANN, KEY, RULE}
    assert all(isinstance(error, Unauthenticated) for error in ended.values())


async def test_a_block_that_is_done_ends_as_itself() -> None:
    directory = Directory(CLUSTER, file())
    async with directory.while_known(ANN):
        done = True
    assert done
    with pytest.raises(ExceptionGroup):
        async with directory.while_known(BOB):
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("identity", "old", "new"),
    [
        (KEY, "ab" * 32, "cd" * 32),
        (RULE, 'subject = "ann"', 'subject = "bob"'),
        (RULE, 'audience = "cloister"', 'audience = "broker"'),
    ],
)
async def test_a_key_or_rule_of_the_same_name_that_is_another_ends_what_was_opened_by_the_first(
    identity: str, old: str, new: str
) -> None:
    directory = Directory(CLUSTER, file())

    async def stream() -> None:
        async with directory.while_known(identity):
            directory.use(file(FILE + "# the same"))
            await asyncio.sleep(0)
            directory.use(file(FILE.replace(old, new)))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await stream()
    assert raised.value.exceptions[0].reason == "identity.expired"  # type: ignore[union-attr]
    assert directory.of(identity).name == "radiology"
