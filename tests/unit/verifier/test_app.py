"""What the verifier refuses to start with; nothing here gets as far as a socket."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloister.appraisal.anchors import INTEL_SGX, INTEL_SGX_NAME, TrustAnchor
from cloister.appraisal.policy import Policy
from cloister.ear import SigningKey
from cloister.errors import CloisterError, InvalidRequest, NotReady
from cloister.kit.audit import AuditLog
from cloister.kit.config import load
from cloister.kit.redis import RedisSettings
from cloister.rpc.certificates import key_pem, new_key
from cloister.verifier.grounds import trust_anchor
from cloister.verifier.policy_in_force import check_pinned
from cloister.verifier.settings import Settings
from fakes.pki import CLUSTER, MeshPki
from fakes.running_services import private_file, verifier_settings, why_not
from fakes.sim import simulated_platform


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return verifier_settings(tmp_path, MeshPki(), simulated_platform(), SigningKey.generate())


@pytest.mark.parametrize("name", ["ca_private_key", "signing_key"])
async def test_a_key_that_others_can_read(settings: Settings, name: str) -> None:
    path = getattr(settings, name)
    path.chmod(0o644)
    assert f"{path} is open to other users" in await why_not(settings)


async def test_a_key_of_another_authority(settings: Settings) -> None:
    private_file(settings.ca_private_key, key_pem(new_key()))
    assert "not the one of the CA certificate" in await why_not(settings)


async def test_a_signing_key_that_is_none(settings: Settings) -> None:
    private_file(settings.signing_key, b"not a key")
    assert "signing_key" in await why_not(settings)


async def test_a_state_folder_that_others_can_read(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o755)
    assert "chmod 700" in await why_not(settings)


@pytest.mark.parametrize("name", ["collateral", "anchor_root", "policy", "ca_certificate"])
async def test_a_file_that_is_not_there(settings: Settings, tmp_path: Path, name: str) -> None:
    said = await why_not(replace(settings, **{name: tmp_path / "missing"}))
    assert "missing" in said


@pytest.mark.parametrize("text", ["", "accepted_statuses = []", 'policy_id = "x"\nanything = true'])
async def test_a_policy_that_is_none(settings: Settings, tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    assert "policy" in await why_not(replace(settings, policy=path))


PINNED = f'policy_id = "ours"\n[[reference_values]]\nmrenclave = "{"ab" * 32}"\n'


@pytest.mark.parametrize("text", [None, 'policy_id = "ours"\n'])
async def test_intels_anchor_and_a_policy_that_names_no_code(
    settings: Settings, tmp_path: Path, text: str | None
) -> None:
    path = None
    if text is not None:
        path = tmp_path / "policy.toml"
        path.write_text(text)
    said = await why_not(replace(settings, anchor_root=None, policy=path))
    assert "an empty field is never match-all" in said
    assert not settings.state_dir.exists()


def test_a_policy_that_names_code_does_for_any_anchor(settings: Settings) -> None:
    pinned = Policy.from_toml(PINNED.encode())
    simulated = trust_anchor(settings.anchor_root)
    check_pinned(pinned, INTEL_SGX)
    check_pinned(pinned, simulated)
    check_pinned(Policy.default(), simulated)


def test_the_anchor_is_intels_unless_a_file_says_otherwise(tmp_path: Path) -> None:
    assert trust_anchor(None) is INTEL_SGX
    (tmp_path / "intel.der").write_bytes(INTEL_SGX.root_der)
    assert not trust_anchor(tmp_path / "intel.der").simulated
    (tmp_path / "own.der").write_bytes(simulated_platform().root_der())
    assert trust_anchor(tmp_path / "own.der").simulated


def test_an_anchor_that_is_no_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root.der").write_bytes(b"junk")
    with pytest.raises(NotReady, match="anchor_root"):
        trust_anchor(tmp_path / "root.der")


_TOML = """
cluster = "demo.cloister.internal"
listen = "127.0.0.1:0"
ca_certificate = "ca.pem"
ca_private_key = "ca.key"
signing_key = "ear.key"
collateral = "collateral.json"
state_dir = "state"
{extra}
[tls]
certificate = "c.pem"
private_key = "k.pem"
trust_roots = "r.pem"
"""


def loaded(folder: Path, extra: str = "", environ: dict[str, str] | None = None) -> Settings:
    (folder / "settings.toml").write_text(_TOML.format(extra=extra))
    return load(Settings, folder / "settings.toml", environ or {}, prefix="CLOISTER_VERIFIER_")


def test_settings_have_safe_defaults(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert (settings.policy, settings.anchor_root) == (None, None)
    assert (settings.challenge_ttl_s, settings.membership_s) == (60.0, 3600.0)
    assert settings.collateral == tmp_path / "collateral.json"


@pytest.mark.attack("C12")
@pytest.mark.parametrize(
    "extra",
    [
        'policy_signers = ["ab"]',
        f'policy_signers = ["{"ab" * 32}"]\npolicy_threshold = 2\npolicy = "p"',
        f'policy_signers = ["{"ab" * 32}", "{"ab" * 32}"]\npolicy = "p"',
        "policy_threshold = 0",
        "policy_threshold = 2",
        "membership_s = 3601",
        "challenge_ttl_s = 61",
        "challenge_ttl_s = 0",
        "grace_s = -1",
        "simulated = true",
    ],
)
def test_settings_that_cannot_be_meant(tmp_path: Path, extra: str) -> None:
    with pytest.raises(InvalidRequest, match=extra.split()[0]):
        loaded(tmp_path, extra)


def test_signers_have_a_policy_to_sign(tmp_path: Path) -> None:
    keys = f'policy_signers = ["{"ab" * 32}"]'
    with pytest.raises(InvalidRequest, match="policy must name"):
        loaded(tmp_path, keys)
    settings = loaded(tmp_path, f'{keys}\npolicy = "policy.signed.json"')
    assert (settings.policy_signers, settings.policy_threshold) == (("ab" * 32,), 1)


def test_the_cluster_is_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(CloisterError):
        loaded(tmp_path, environ={"CLOISTER_VERIFIER_CLUSTER": "Not A Cluster"})
    assert loaded(tmp_path).cluster == CLUSTER


@pytest.mark.attack("C11")
def test_a_simulated_anchor_cannot_be_hidden_by_its_name() -> None:
    with pytest.raises(InvalidRequest):
        TrustAnchor(INTEL_SGX_NAME, simulated_platform().root_der())


async def test_a_file_of_members_that_is_damaged(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)
    (settings.state_dir / "members.db").write_bytes(b"junk" * 1000)
    assert "every worker attests anew" in await why_not(settings)


async def test_a_shared_key_that_is_none(settings: Settings, tmp_path: Path) -> None:
    redis = RedisSettings(
        url="rediss://127.0.0.1:1",
        trust_roots=settings.tls.trust_roots,
        certificate=settings.tls.certificate,
        private_key=settings.tls.private_key,
        user="verifier",
        password_file=private_file(tmp_path / "password", b"secret"),
        shared_key=private_file(tmp_path / "shared.key", b"short"),
    )
    assert "32 random bytes" in await why_not(replace(settings, redis=redis))


@pytest.mark.attack("H06")
def test_a_redis_table_without_tls_is_refused_by_the_settings(tmp_path: Path) -> None:
    paths = ("ca_certificate", "ca_private_key", "signing_key", "collateral", "state_dir")
    tls = ("certificate", "private_key", "trust_roots")
    lines = ['cluster = "demo.cloister.internal"', 'listen = "127.0.0.1:0"', *(f'{name} = "x"' for name in paths)]
    lines += ["[tls]", *(f'{name} = "x"' for name in tls), "[redis]", *(f'{name} = "x"' for name in tls)]
    lines += ['password_file = "x"', 'shared_key = "x"', 'user = "verifier"']
    path = tmp_path / "verifier.toml"
    path.write_text("\n".join([*lines, 'url = "rediss://127.0.0.1:6379"']))
    loaded = load(Settings, path, {}, prefix="CLOISTER_VERIFIER_")
    assert loaded.redis is not None
    path.write_text("\n".join([*lines, 'url = "redis://127.0.0.1:6379"']))
    with pytest.raises(InvalidRequest, match="rediss://"):
        load(Settings, path, {}, prefix="CLOISTER_VERIFIER_")


@pytest.mark.attack("I03")
async def test_a_clock_that_was_set_back_before_the_start(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)
    with AuditLog.opened(settings.state_dir / "audit.db", now=lambda: datetime.now(UTC) + timedelta(hours=1)) as audit:
        audit.append("evidence.accepted")
    assert "before what our own record tells of" in await why_not(settings)
    settings = replace(settings, clock_was_ahead=True, listen="nowhere:0")
    assert "cannot listen" in await why_not(settings)
