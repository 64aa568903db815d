"""The commands as a person and a script call them: words, JSON, exit codes, and never a traceback."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloister.cli import __main__ as entry
from cloister.cli.mesh_folder import Mesh
from cloister.client import Client, TrustBundle, save_receipt
from fakes.founded import CLUSTER, without_ports
from fakes.serving import MODEL, FakeGateway, FakeVerifier, FakeWorker

Run = Callable[..., tuple[int, str, str]]
COMMANDS = [
    ("init",),
    ("up",),
    ("down",),
    ("status",),
    ("console",),
    ("infer",),
    ("model", "convert"),
    ("model", "quantize"),
    ("model", "check"),
    ("model", "seal"),
    ("model", "import-zoo"),
    ("recovery", "keygen"),
    ("recovery", "deal"),
    ("recovery", "order"),
    ("recovery", "status"),
    ("recovery", "shares"),
    ("recovery", "check"),
    ("recovery", "restore"),
    ("model", "publish"),
    ("model", "allow"),
    ("model", "list"),
    ("model", "signers"),
    ("model", "sign"),
    ("model", "apply"),
    ("identity", "issue"),
    ("identity", "list"),
    ("identity", "show"),
    ("evidence", "show"),
    ("evidence", "verify"),
    ("evidence", "judge"),
    ("evidence", "save"),
    ("policy", "check"),
    ("policy", "sign"),
    ("policy", "explain"),
    ("policy", "apply"),
    ("policy", "show"),
    ("receipt", "verify"),
    ("trust", "show"),
    ("trust", "pin"),
    ("trust", "accept"),
    ("audit", "list"),
    ("identity", "renew"),
    ("identity", "flink"),
    ("ca", "rotate"),
    ("ca", "add-root"),
    ("ca", "use-root"),
    ("ca", "drop-root"),
    ("verifier", "rotate-key"),
    ("verifier", "keys"),
    ("revoke", "measurement"),
    ("revoke", "signer"),
    ("revoke", "platform"),
    ("revoke", "instance"),
    ("revoke", "list"),
    ("revoke", "lift"),
    ("revoke", "order"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(run: Run, words: tuple[str, ...]) -> None:
    code, out, _ = run(*words, "--help")
    assert code == 0
    assert re.search(r"Examples?:", out)
    assert f"cloister {' '.join(words)}" in " ".join(out.split())


def test_the_root_documents_exit_codes(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "3 not believed or refused" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("status", "/no/such/mesh"), 2, "no mesh folder"),
        (("infer", "iris", "--input", "x.json", "--mesh", "/no/such/mesh"), 2, "no mesh folder"),
        (("receipt", "verify", "/no/such/receipt"), 2, "no mesh folder"),
        (("model", "publish", "/no/such/folder", "--mesh", "/no/such/mesh"), 2, "no mesh folder"),
        (("identity", "show", "/no/such/identity"), 2, "certificate.pem"),
        (("init", "x"), 2, "--model"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, out, err = run(*words)
    assert ended == code
    assert says in err
    assert "Traceback" not in out + err


def test_the_example_of_init_founds_a_mesh(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    without_ports(monkeypatch)
    _, out, _ = run("init", "--help")
    (example,) = re.findall(r"cloister (init [^│\n]*)", out.partition("Example:")[2])
    assert run(*(word for word in example.split() if word != "--simulator"))[0] == 0
    assert Mesh.read(tmp_path / ".cloister").cluster == CLUSTER


def test_the_advice_where_there_is_no_mesh_founds_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_ports(monkeypatch)
    _, _, err = run("status", tmp_path / "mesh")
    advice = " ".join(err.split()).partition("'cloister ")[2].partition("'")[0]
    assert run(*advice.replace("NAME", "iris").split())[0] == 0


def test_a_mesh_toml_that_is_no_text_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_bytes(b'cluster = "\xff"')
    code, out, err = run("status", tmp_path)
    assert (code, out) == (1, "")
    assert "does not parse" in err
    assert len(err.splitlines()) == 1


def test_a_certificate_without_a_name_is_one_sentence(run: Run, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now, nobody = datetime.now(UTC), x509.Name([])
    certificate = (
        x509.CertificateBuilder(nobody, nobody, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    code, out, err = run("identity", "show", tmp_path)
    assert (code, out) == (1, "")
    assert "no SPIFFE id" in err
    assert len(err.splitlines()) == 1


def test_a_mesh_that_is_down_is_shown_as_such(run: Run, mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(*_: object) -> bool:
        return False

    monkeypatch.setattr("cloister.cli.probes.Probes.serving", nobody)
    code, out, _ = run("status", mesh.folder, "--json")
    found = json.loads(out)
    assert code == 4
    assert [service["serving"] for service in found["services"]] == [False] * 4
    assert found["cluster"] == CLUSTER


def test_identities_are_issued_listed_and_shown(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    theirs = tmp_path / "ward-7"
    code, out, _ = run("identity", "issue", "client", "ward-7", "--mesh", mesh.folder, "--out", theirs)
    assert code == 0
    assert f"spiffe://{CLUSTER}/client/ward-7" in out
    other = Mesh.read(theirs)
    assert (other.gateway, other.cluster) == (mesh.gateway, mesh.cluster)
    assert TrustBundle.read(other.trust).to_json() == TrustBundle.read(mesh.trust).to_json()
    assert not (theirs / "pki").exists()
    code, out, _ = run("identity", "list", "--mesh", theirs, "--json")
    (listed,) = json.loads(out)
    code, out, _ = run("identity", "show", listed["folder"], "--json")
    assert json.loads(out) == listed


def test_a_mesh_that_was_handed_over_acts_as_its_only_identity(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    theirs = tmp_path / "ward"
    run("identity", "issue", "client", "ward-7", "--mesh", mesh.folder, "--out", theirs)
    other = Mesh.read(theirs)
    assert other.identity("client") == theirs / "identities" / "client" / "ward-7"
    assert other.identity("auditor").name == "main"
    run("identity", "issue", "client", "ward-8", "--mesh", mesh.folder)
    assert mesh.identity("client").name == "main"
    (theirs / "identities" / "client" / "ward-8").mkdir()
    (theirs / "identities" / "client" / "ward-8" / "certificate.pem").touch()
    assert other.identity("client").name == "main"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("client", "main"), "exists already"),
        (("client", "No-Such"), "a-z"),
        (("worker", "me"), "worker"),
    ],
)
def test_identities_that_cannot_be(run: Run, mesh: Mesh, words: tuple[str, ...], says: str) -> None:
    code, _, err = run("identity", "issue", *words, "--mesh", mesh.folder)
    assert code in (1, 2)
    assert says in err


def test_only_the_holder_of_the_root_key_issues(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    run("identity", "issue", "client", "other", "--mesh", mesh.folder, "--out", tmp_path / "theirs")
    code, _, err = run("identity", "issue", "owner", "me", "--mesh", tmp_path / "theirs")
    assert code == 2
    assert "root CA" in err


@pytest.mark.parametrize("option", ["--receipt", "--output"])
def test_where_an_answer_is_kept_is_checked_before_it_is_asked_for(
    run: Run, mesh: Mesh, tmp_path: Path, option: str
) -> None:
    for place, says in ((tmp_path / "none" / "file", "there is no folder"), (tmp_path, "is a folder")):
        code, _, err = run("infer", "iris", "--input", "x.json", option, place, "--mesh", mesh.folder)
        assert code == 2
        assert says in err


@pytest.mark.parametrize("model", ["Iris", "", "a..b", "iris@", "iris@0", "iris@x", "../iris"])
def test_models_are_named_before_anything_is_founded(run: Run, tmp_path: Path, model: str) -> None:
    code, _, err = run("init", tmp_path / "mesh", "--model", model)
    assert code == 2
    assert "NAME@VERSION" in err
    assert list(tmp_path.iterdir()) == []


def test_appraisals_are_not_of_a_model(run: Run, mesh: Mesh) -> None:
    code, _, err = run("audit", "list", "--record", "appraisals", "--model", "iris", "--mesh", mesh.folder)
    assert code == 2
    assert "--model" in err


@pytest.mark.parametrize(("words", "says"), [((), "nothing is recorded yet"), (("--model", "iris"), "nothing matches")])
def test_a_record_without_a_line(
    run: Run, mesh: Mesh, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    async def none(*_: object) -> list[object]:
        return []

    monkeypatch.setattr("cloister.cli.audit_commands._lines", none)
    assert run("audit", "list", *words, "--mesh", mesh.folder)[1].strip() == says


def test_allowing_nobody_is_not_allowing_everybody(run: Run, mesh: Mesh) -> None:
    code, _, err = run("model", "allow", "iris", "--mesh", mesh.folder)
    assert code == 2
    assert "nothing means 'anybody'" in " ".join(err.replace("│", "").split())


@pytest.mark.parametrize(
    "option", [("--mrenclave", "ab"), ("--mrenclave", "AB" * 32), ("--signer", "ab" * 32), ("--signer", "x:1:1")]
)
def test_measurements_are_read_strictly(run: Run, mesh: Mesh, option: tuple[str, str]) -> None:
    assert run("model", "allow", "iris", *option, "--mesh", mesh.folder)[0] == 2


async def kept_receipt(verifier: FakeVerifier, folder: Path) -> tuple[Path, Path]:
    """A receipt and the trust bundle it holds under."""
    client = Client(cast(Any, FakeGateway(FakeWorker(verifier))), verifier.trust())
    answer = await client.infer(MODEL, {"x": np.ones((1, 2), np.float32)})
    assert answer.receipt is not None
    save_receipt(answer.receipt, folder / "answer.receipt")
    (folder / "trust.json").write_bytes(verifier.trust().to_json())
    return folder / "answer.receipt", folder / "trust.json"


async def test_a_receipt_is_verified_offline(run: Run, tmp_path: Path) -> None:
    receipt, trust = await kept_receipt(FakeVerifier(), tmp_path)
    code, out, err = run("receipt", "verify", receipt, "--trust", trust)
    assert code == 0
    assert "the receipt holds" in out
    assert "simulated" in err
    code, out, _ = run("receipt", "verify", receipt, "--trust", trust, "--json")
    found = json.loads(out)
    assert (found["holds"], found["simulated"]) == (True, True)
    assert found["outputs"] == [{"name": "y", "shape": [1, 2], "data": [2.0, 2.0]}]


async def test_a_receipt_that_does_not_hold_ends_with_3(run: Run, tmp_path: Path) -> None:
    receipt, trust = await kept_receipt(FakeVerifier(), tmp_path)
    content = bytearray(receipt.read_bytes())
    content[len(content) // 2] ^= 1
    receipt.write_bytes(content)
    code, out, err = run("receipt", "verify", receipt, "--trust", trust)
    assert code == 3
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_what_clients_believe_is_shown_and_pinned(run: Run, mesh: Mesh, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    trust.write_bytes(mesh.trust.read_bytes())
    assert "no worker is believed" in run("trust", "show", "--trust", trust)[1]
    _, out, _ = run("trust", "show", "--trust", trust, "--json")
    before = json.loads(out)
    owner = json.loads(run("identity", "show", mesh.identity("owner"), "--json")[1])["owner_key"]
    assert (before["owners"], before["mrenclave"], before["simulated"]) == ([owner], None, False)
    assert run("trust", "accept", "--mrenclave", "ab" * 32, "--trust", trust)[0] == 0
    _, out, _ = run("trust", "show", "--trust", trust, "--json")
    assert json.loads(out) == before | {"mrenclave": ["ab" * 32]}
    assert run("trust", "accept", "--verifier-policy", "cd" * 32, "--trust", trust)[0] == 0
    _, out, _ = run("trust", "show", "--trust", trust, "--json")
    assert json.loads(out)["verifier_policies"] == ["cd" * 32]
    assert "xwing" in run("trust", "show", "--trust", trust)[1]
    assert run("trust", "accept", "--hpke-suite", "x25519", "--hpke-suite", "xwing", "--trust", trust)[0] == 0
    assert run("trust", "accept", "--seal-version", "2", "--trust", trust)[0] == 0
    _, out, _ = run("trust", "show", "--trust", trust, "--json")
    assert json.loads(out)["floors"] == {"hpke_suites": ["x25519", "xwing"], "seal_version": 2}
    for option, value, ended in (("--hpke-suite", "rot13", 1), ("--seal-version", "3", 1), ("--seal-version", "0", 2)):
        assert run("trust", "accept", option, value, "--trust", trust)[0] == ended
    assert run("trust", "accept", "--trust", trust)[0] == 2
    for wrong, ended in ((tmp_path, 2), (tmp_path / "none.json", 2), (mesh.folder / "mesh.toml", 1)):
        code, out, err = run("trust", "show", "--trust", wrong)
        assert (code, out) == (ended, "")
        assert str(wrong) in err
    assert run("trust", "accept", "--owner", "AB", "--trust", trust)[0] == 2


def test_founding_for_sgx_without_a_measurement_says_what_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_ports(monkeypatch)
    ended, out, err = run("init", tmp_path / "one", "--model", "iris")
    assert ended == 0
    assert "clients will believe nobody" in " ".join((out + err).split())
    ended, out, err = run("init", tmp_path / "two", "--model", "iris", "--mrenclave", "ab" * 32)
    assert ended == 0
    assert "believe nobody" not in " ".join((out + err).split())
    ended, out, err = run("init", tmp_path / "three", "--model", "iris", "--mrenclave", "AB" * 32)
    assert (ended, out) == (2, "")
    assert "lower-case hex" in err
    assert not (tmp_path / "three").exists()


def test_ctrl_c_while_it_is_still_loading_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "cloister.cli.app", cast("Any", SimpleNamespace(main=interrupted)))
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
