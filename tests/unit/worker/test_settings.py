"""The worker's settings, and the digest that evidence carries."""

from dataclasses import replace
from pathlib import Path

import pytest

from cloister.errors import InvalidRequest
from cloister.kit.config import load
from cloister.rpc.identity import TlsFiles
from cloister.worker.settings import Settings, WantedModel

TOML = """
cluster = "demo.cloister.internal"
verifier = "127.0.0.1:1"
provisioner = "127.0.0.1:2"
verifier_keys = "jwks.json"
models = ["iris", "wine@3", "wine@4"]
model_owners = ["abababababababababababababababababababababababababababababababab"]
models_dir = "models"
[tls]
certificate = "c.pem"
private_key = "k.pem"
trust_roots = "r.pem"
"""

OWNER = "ab" * 32


def settings(**changes):
    tls = TlsFiles(certificate=Path("c"), private_key=Path("k"), trust_roots=Path("r"))
    fields = {
        "cluster": "demo.cloister.internal",
        "verifier": "127.0.0.1:1",
        "provisioner": "127.0.0.1:2",
        "verifier_keys": Path("jwks.json"),
        "models": ("iris",),
        "model_owners": (OWNER,),
        "models_dir": Path("models"),
        "tls": tls,
    }
    return Settings(**(fields | changes))


def loaded(tmp_path, text=TOML, environ=None, *, in_enclave=True):
    file = tmp_path / "worker.toml"
    file.write_text(text)
    return load(Settings, file, environ or {}, prefix="CLOISTER_WORKER_", in_enclave=in_enclave)


def test_from_a_file(tmp_path):
    found = loaded(tmp_path, environ={"CLOISTER_WORKER_LISTEN": "127.0.0.1:9"})
    assert found.wanted == (WantedModel("iris", 0), WantedModel("wine", 3), WantedModel("wine", 4))
    assert found.models_dir == tmp_path / "models"
    assert found.listen == "127.0.0.1:9"
    assert found.verifier_keys == tmp_path / "jwks.json"
    assert found.owner_keys == {bytes.fromhex(OWNER)}
    assert found.audience == "spiffe://demo.cloister.internal/verifier/main"


def test_unknown_variables_are_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="CLOISTER_WORKER_LISTNE"):
        loaded(tmp_path, environ={"CLOISTER_WORKER_LISTNE": "x"})


def test_the_host_chooses_only_what_is_marked(tmp_path):
    with pytest.raises(InvalidRequest, match="from outside the enclave"):
        loaded(tmp_path, environ={"CLOISTER_WORKER_PROVISIONER": "evil:1"})
    found = loaded(tmp_path, environ={"CLOISTER_WORKER_ENDPOINT": "host:1"})
    assert found.endpoint == "host:1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ()}, "models is empty"),
        ({"models": ("../x",)}, "model name"),
        ({"models": ("Iris",)}, "model name"),
        ({"models": ("iris@",)}, "iris@"),
        ({"models": ("iris@0",)}, "iris@0"),
        ({"models": ("iris@x",)}, "iris@x"),
        ({"models": ("iris@" + "9" * 30,)}, "version"),
        ({"models": ("iris", "iris")}, "twice"),
        ({"models": ("iris", "iris@2")}, "twice"),
        ({"models": ("iris@2", "iris@2")}, "twice"),
        ({"model_owners": ()}, "model_owners"),
        ({"model_owners": (OWNER, "")}, "model_owners"),
        ({"model_owners": (OWNER.upper(),)}, "model_owners"),
        ({"model_owners": (OWNER + "\n",)}, "model_owners"),
        ({"hpke_suite": "rot13"}, "hpke_suite"),
        ({"key_overlap_s": 0.5}, "key_overlap_s"),
        ({"key_overlap_s": 1e9}, "key_overlap_s"),
        ({"slots": 0}, "slots"),
        ({"slots": 5000}, "slots"),
        ({"threads": -1}, "threads"),
        ({"max_batch_rows": 0}, "max_batch_rows"),
        ({"max_batch_rows": 1000}, "max_batch_rows"),
        ({"max_message_bytes": 0}, "max_message_bytes"),
        ({"max_message_bytes": (64 << 20) + 1}, "max_message_bytes"),
        ({"grace_s": -1.0}, "grace_s"),
        ({"verifier_id": "spiffe://other.cloister.internal/verifier/main"}, "verifier_id"),
        ({"verifier_id": "spiffe://demo.cloister.internal/gateway/main"}, "verifier_id"),
    ],
)
def test_settings_that_make_no_sense(changes, said):
    with pytest.raises((ValueError, InvalidRequest), match=said):
        settings(**changes)


def test_the_digest_covers_what_matters_and_not_what_the_host_chooses():
    base = settings()
    same = (
        replace(base, listen="0.0.0.0:1"),
        replace(base, endpoint="x:1"),
        replace(base, models_dir=Path("/elsewhere")),
        replace(base, verifier_keys=Path("/elsewhere")),
    )
    assert {each.digest(b"roots", b"keys") for each in (base, *same)} == {base.digest(b"roots", b"keys")}
    other = (
        replace(base, models=("wine",)),
        replace(base, model_owners=("cd" * 32,)),
        replace(base, model_owners=(OWNER, "cd" * 32)),
        replace(base, provisioner="evil:1"),
        replace(base, verifier="evil:1"),
        replace(base, hpke_suite="x25519"),
        replace(base, key_overlap_s=3600.0),
        replace(base, max_message_bytes=1 << 20),
        replace(base, verifier_id="spiffe://demo.cloister.internal/verifier/two"),
    )
    digests = {each.digest(b"roots", b"keys") for each in (base, *other)}
    digests |= {base.digest(b"other roots", b"keys"), base.digest(b"roots", b"other keys")}
    assert len(digests) == 12


def test_models_are_wanted_by_name_number_or_the_newest_few():
    found = settings(models=("iris@newest:2", "wine@3", "wine@4", "tea")).wanted
    assert found == (
        WantedModel("iris", 0, 2),
        WantedModel("wine", 3),
        WantedModel("wine", 4),
        WantedModel("tea", 0),
    )


@pytest.mark.parametrize(
    "models",
    [("iris@newest",), ("iris@newest:0",), ("iris@newest:10",), ("iris@",), ("iris@01",), ("iris@newest:2", "iris")],
)
def test_models_that_are_wanted_in_no_known_way_or_twice(models):
    with pytest.raises((InvalidRequest, ValueError)):
        settings(models=models)


def test_no_model_is_needed_where_some_may_be_loaded_later():
    assert settings(models=(), loadable=True).wanted == ()
    with pytest.raises(ValueError, match="models"):
        settings(models=())


@pytest.mark.parametrize("change", [{"loadable": True}, {"memory_bytes": 1 << 30}])
def test_what_may_be_loaded_is_measured(change):
    assert settings(**change).digest(b"", b"") != settings().digest(b"", b"")


@pytest.mark.attack("I02")
@pytest.mark.parametrize("variable", ["CLOISTER_WORKER_LISTEN", "CLOISTER_WORKER_ENDPOINT"])
@pytest.mark.parametrize(
    "value", ["unix:443", "unix:/run/docker.sock", "dns:///s3cret:1", "h:1\nforged", "\x1b[31mh:1", "s3cret" * 200_000]
)
def test_an_address_that_the_host_chooses_is_one(tmp_path, variable, value):
    with pytest.raises(InvalidRequest) as refused:
        loaded(tmp_path, environ={variable: value})
    field = variable.removeprefix("CLOISTER_WORKER_").lower()
    assert f"{field} must be host:port" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert len(str(refused.value)) < 1000
