"""Flink's settings: TLS 1.3 with client certificates everywhere, by the key stores that `cloister init` makes."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates
from cryptography.x509 import Certificate, DNSName, IPAddress, SubjectAlternativeName

from cloister.cli import flink_stores
from cloister.errors import InvalidRequest, NotFound, NotReady
from cloister_stream import cluster_settings
from cloister_stream.cluster_settings import ClusterSettings, RestAccess
from cloister_stream.flink_home import FlinkHome
from cloister_stream.rest import tls_context

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    flink_stores.write(tmp_path / "stores", now=NOW, hosts=("flink.example.org", "10.0.0.7"))
    return tmp_path / "stores"


@pytest.fixture
def conf(tmp_path: Path, stores: Path) -> Path:
    settings = ClusterSettings(
        stores=stores, work=tmp_path / "work", python=Path("/venv/bin/python"), java_options="--add-x=y"
    )
    settings.write(tmp_path / "conf")
    return tmp_path / "conf"


def certificate(store: Path) -> Certificate:
    password = (store.parent / "password").read_bytes()
    key, found, more = load_key_and_certificates(store.read_bytes(), password)
    assert key is not None
    assert found is not None
    assert more == []
    return found


def test_the_stores_are_for_their_owner_and_trust_nothing_but_themselves(stores: Path) -> None:
    assert {path.name for path in stores.iterdir()} == {"internal.p12", "rest.p12", "password"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in stores.iterdir()} == {0o600}
    assert stat.S_IMODE(stores.stat().st_mode) == 0o700
    internal, rest = certificate(stores / "internal.p12"), certificate(stores / "rest.p12")
    assert internal.public_key() != rest.public_key()
    for each in (internal, rest):
        each.verify_directly_issued_by(each)
        assert each.not_valid_after_utc - NOW == timedelta(days=365)


def test_the_rest_interface_is_found_by_its_names(stores: Path) -> None:
    names = certificate(stores / "rest.p12").extensions.get_extension_for_class(SubjectAlternativeName).value
    assert names.get_values_for_type(DNSName) == ["localhost", "flink.example.org"]
    assert [str(each) for each in names.get_values_for_type(IPAddress)] == ["127.0.0.1", "10.0.0.7"]


def test_new_stores_take_the_place_of_old_ones(stores: Path) -> None:
    before = certificate(stores / "rest.p12")
    flink_stores.write(stores, now=NOW)
    assert certificate(stores / "rest.p12") != before


def test_every_connection_is_tls_1_3_with_a_client_certificate(conf: Path, stores: Path) -> None:
    found = cluster_settings.read(conf)
    assert found["security.ssl.protocol"] == "TLSv1.3"
    for kind in ("internal", "rest"):
        assert found[f"security.ssl.{kind}.enabled"] == "true"
        assert found[f"security.ssl.{kind}.keystore"] == found[f"security.ssl.{kind}.truststore"]
        assert Path(found[f"security.ssl.{kind}.keystore"]).parent == stores
    assert found["security.ssl.rest.authentication-enabled"] == "true"
    assert not [key for key, value in found.items() if "ssl" in key and value == "false"]
    assert found["python.executable"] == "/venv/bin/python"


def test_the_file_with_the_password_is_for_its_owner(conf: Path) -> None:
    assert stat.S_IMODE((conf / "config.yaml").stat().st_mode) == 0o600
    assert "password" not in repr(RestAccess.of(conf)).partition("store=")[2].replace("stores", "")


def test_a_client_of_the_rest_interface_shows_its_certificate_and_believes_no_other(conf: Path) -> None:
    access = RestAccess.of(conf)
    assert access.address == "localhost:8081"
    context = tls_context(access.store, access.password)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509"] == 1


def test_a_wrong_password_or_an_open_store_is_told(conf: Path, stores: Path) -> None:
    with pytest.raises(InvalidRequest, match="no key store with this password"):
        tls_context(stores / "rest.p12", "another")
    (stores / "rest.p12").chmod(0o644)
    with pytest.raises(NotReady, match="open to other users"):
        tls_context(stores / "rest.p12", RestAccess.of(conf).password)


def test_what_is_missing_says_how_to_make_it(tmp_path: Path, stores: Path) -> None:
    with pytest.raises(NotFound, match="cloister-stream configure"):
        RestAccess.of(tmp_path)
    (stores / "internal.p12").unlink()
    settings = ClusterSettings(stores=stores, work=tmp_path, python=Path("p"), java_options="")
    with pytest.raises(NotFound, match="cloister identity flink"):
        settings.write(tmp_path / "conf")


def test_settings_that_somebody_else_wrote_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in ("rest:\n  port: 8081\n", 'rest.port: "8081"\n'):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(InvalidRequest, match="not as 'cloister-stream configure'"):
            RestAccess.of(tmp_path)


def test_what_java_must_open_is_read_from_flinks_own_settings(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    config = tmp_path / "conf" / "config.yaml"
    config.write_text(
        "env:\n  java:\n    opts:\n      all: --add-exports=java.base/sun.net.util=ALL-UNNAMED --add-opens=x\n"
    )
    assert FlinkHome(tmp_path).java_options() == "--add-exports=java.base/sun.net.util=ALL-UNNAMED --add-opens=x"
    config.write_text("env: {}\n")
    with pytest.raises(NotReady, match="names no Java options"):
        FlinkHome(tmp_path).java_options()
