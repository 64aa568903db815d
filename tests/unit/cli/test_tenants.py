"""`cloister tenant`: the file that gateways follow, and keys that are printed once."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli.mesh_folder import Mesh
from cloister.gateway.tenant_file import TenantsFile
from fakes.founded import CLUSTER, found

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    made = found(tmp_path / "mesh", monkeypatch)
    monkeypatch.setenv("CLOISTER_MESH", str(made.folder))
    return made


def path_of(mesh: Mesh) -> Path:
    return mesh.folder / "gateway" / "tenants.toml"


def written(mesh: Mesh) -> TenantsFile:
    path = path_of(mesh)
    return TenantsFile.parse(path.read_bytes(), path, CLUSTER)


def test_a_mesh_is_founded_open_to_its_certificates_and_says_so(own: Mesh, run: Run) -> None:
    assert written(own) == TenantsFile(unlisted_certificates=True)
    assert stat.S_IMODE(path_of(own).stat().st_mode) == 0o600
    assert "every model" in run("tenant", "list")[1]


def test_tenants_and_keys_come_and_go_where_gateways_look(own: Mesh, run: Run) -> None:
    words = ("--model", "iris", "--certificate", "client/ward-7", "--rate", "5", "--share", "3")
    assert run("tenant", "add", "radiology", *words)[0] == 0
    assert run("tenant", "add", "research", "--all-models")[0] == 0
    radiology = written(own).tenants["radiology"]
    assert radiology.models == ("iris",)
    assert radiology.certificates == (f"spiffe://{CLUSTER}/client/ward-7",)
    assert (radiology.rate, radiology.share, radiology.calls) == (5.0, 3, None)
    assert written(own).tenants["research"].all_models
    told = json.loads(run("tenant", "list", "--json")[1])
    assert told["tenants"]["radiology"]["models"] == ["iris"]
    assert run("tenant", "remove", "radiology")[0] == 0
    assert set(written(own).tenants) == {"research"}


def test_a_key_is_printed_once_and_kept_as_a_hash(own: Mesh, run: Run) -> None:
    run("tenant", "add", "research", "--all-models")
    code, out, err = run("tenant", "key", "add", "research", "--days", "90")
    text = out.strip()
    identifier = text.split("_")[1]
    kept = written(own).tenants["research"].keys[identifier]
    assert (code, kept.sha256) == (0, hashlib.sha256(text.encode()).hexdigest())
    assert kept.expires is not None
    assert identifier in err
    assert text not in err + path_of(own).read_text() + run("tenant", "list")[1]
    assert run("tenant", "key", "add", "research")[1].strip() != text
    assert run("tenant", "key", "revoke", identifier)[0] == 0
    assert identifier not in written(own).tenants["research"].keys
    assert len(written(own).tenants["research"].keys) == 1


def test_comments_order_and_mode_stay(own: Mesh, run: Run) -> None:
    path = path_of(own)
    path.write_text("# ours\nunlisted_certificates = false  # closed\n\n[tenants.a]\nall_models = true\n")
    path.chmod(0o644)
    assert run("tenant", "add", "b", "--model", "iris")[0] == 0
    assert run("tenant", "key", "add", "a")[0] == 0
    text = path.read_text()
    assert text.startswith("# ours\nunlisted_certificates = false  # closed\n\n[tenants.a]\nall_models = true\n")
    assert list(written(own).tenants) == ["a", "b"]
    assert len(written(own).tenants["a"].keys) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "radiology"), "--all-models"),
        (("add", "radiology", "--model", "iris", "--all-models"), "--all-models"),
        (("add", "Radiology", "--model", "iris"), "is no name"),
        (("add", "other", "--model", "iris"), "take another name"),
        (("add", "radiology", "--model", "iris@1"), "is no name of a model"),
        (("add", "radiology", "--model", "iris", "--certificate", "operator/olga"), "only a client or an owner"),
        (("add", "radiology", "--model", "iris", "--certificate", "spiffe://a.b/client/c"), "another cluster"),
        (("add", "radiology", "--model", "iris", "--burst", "3"), "burst means nothing"),
        (("add", "research", "--model", "iris"), "already"),
        (("remove", "none"), "no tenant 'none'"),
        (("key", "add", "none"), "no tenant 'none'"),
        (("key", "revoke", "0123456789"), "no tenant has a key"),
        (("key", "revoke", "clk_0123456789_s3cret"), "no id of a key"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    own: Mesh, run: Run, words: tuple[str, ...], says: str
) -> None:
    run("tenant", "add", "research", "--all-models")
    before = path_of(own).read_bytes()
    code, _, said = run("tenant", *words)
    assert code in (1, 2)
    assert says in " ".join(said.split())
    assert "s3cret" not in said
    assert path_of(own).read_bytes() == before


def test_a_file_that_makes_no_sense_is_named_and_left(own: Mesh, run: Run) -> None:
    path_of(own).write_text("[tenants.a]\n")
    code, _, said = run("tenant", "add", "b", "--all-models")
    assert (code, f"{path_of(own)} makes no sense" in " ".join(said.split())) == (1, True)
    assert path_of(own).read_text() == "[tenants.a]\n"


def test_a_gateway_that_has_no_tenants_file_is_named(own: Mesh, run: Run) -> None:
    settings = own.settings("gateway")
    settings.write_text(settings.read_text().replace('tenants_file = "tenants.toml"\n', ""))
    code, _, said = run("tenant", "list")
    assert (code, "names no tenants file" in said) == (1, True)


@pytest.mark.attack("J05")
def test_a_file_that_others_may_write_is_not_gone_by(own: Mesh, run: Run) -> None:
    path_of(own).chmod(0o620)
    code, _, said = run("tenant", "add", "research", "--all-models")
    assert (code, "chmod go-w" in " ".join(said.split())) == (1, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[tenants]\n",
        "[tenants.a]\nall_models = true\n\n[issuers.i]\nissuer = 'i'\naudience = 'c'\njwks_url = 'https://a.b/k'\n"
        "\n[tenants.b]\nmodels = []\n",
        "[tenants]\na = { all_models = true }\n",
        "tenants.a.all_models = true\n",
        f"[tenants.a]\nall_models = true\n[tenants.a.keys.0123456789]\nsha256 = '{'ab' * 32}'\n",
        f"[tenants.a]\nall_models = true\nkeys = {{ 0123456789 = {{ sha256 = '{'ab' * 32}' }} }}\n",
    ],
)
def test_however_the_file_is_laid_out_commands_change_it(own: Mesh, run: Run, text: str) -> None:
    path_of(own).write_text(text)
    before = set(written(own).tenants)
    if "a" not in before:
        assert run("tenant", "add", "a", "--all-models")[0] == 0
    assert run("tenant", "add", "c", "--model", "iris")[0] == 0
    assert set(written(own).tenants) == before | {"a", "c"}
    keys = set(written(own).tenants["a"].keys)
    for name in ("a", "c"):
        assert run("tenant", "key", "add", name)[0] == 0
    (made,) = set(written(own).tenants["a"].keys) - keys
    assert run("tenant", "key", "revoke", made)[0] == 0
    assert set(written(own).tenants["a"].keys) == keys
    assert len(written(own).tenants["c"].keys) == 1
    assert run("tenant", "remove", "a")[0] == 0
    assert set(written(own).tenants) == (before | {"c"}) - {"a"}
