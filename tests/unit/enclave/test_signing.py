"""Signing: with a key from a file, with one in a token, and elsewhere; and what is never signed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cloister.enclave import hardware_signer
from cloister.enclave.kinds import KINDS, VERIFIER, EnclaveSet, Kind
from cloister.enclave.measurement import Measurement
from cloister.enclave.signers import KeySigner, key_in, new_key
from cloister.enclave.signing import add_signature, read_sigstruct, sign, to_sign, unsigned_file
from cloister.errors import CloisterError, InvalidRequest, NotFound, NotReady
from fakes.built_enclave import Built
from fakes.soft_token import SoftToken, soft_token


def write_key(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, path: Path, *, passphrase: bytes = b"") -> Path:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    return path


def refusal(folder: Path, signer: KeySigner) -> str:
    with pytest.raises(CloisterError) as refused:
        sign(folder, signer)
    assert not (folder / "worker.sig").exists() or refused.value.reason == "enclave.not_hardened"
    return refused.value.reason


def test_the_measurement_names_the_signer_from_then_on(tmp_path: Path, key_file: Path) -> None:
    measured = Built().into(tmp_path / "worker")
    assert measured.mrsigner is None
    signed = sign(tmp_path / "worker", key_in(key_file))
    kept = read_sigstruct(tmp_path / "worker" / "worker.sig")
    kept.verify()
    assert Measurement.read(tmp_path / "worker") == signed
    assert (signed.mrsigner, signed.mrenclave) == (kept.mrsigner.hex(), measured.mrenclave)


def test_the_same_key_signs_the_same_twice(tmp_path: Path, signer: KeySigner) -> None:
    Built().into(tmp_path)
    sign(tmp_path, signer)
    once = (tmp_path / "worker.sig").read_bytes()
    sign(tmp_path, signer)
    assert (tmp_path / "worker.sig").read_bytes() == once


def test_a_signing_machine_needs_two_files_and_no_more(tmp_path: Path, signer: KeySigner) -> None:
    Built().into(tmp_path / "built")
    (tmp_path / "there").mkdir()
    for name in ("measurement.json", "worker.unsigned.sig"):
        shutil.copy(tmp_path / "built" / name, tmp_path / "there")
    there = sign(tmp_path / "there", signer)
    assert there.mrsigner == sign(tmp_path / "built", signer).mrsigner
    assert (tmp_path / "there" / "worker.sig").read_bytes() == (tmp_path / "built" / "worker.sig").read_bytes()


def test_a_signature_that_was_made_elsewhere_is_taken_if_it_holds(tmp_path: Path, signer: KeySigner) -> None:
    Built().into(tmp_path)
    made = signer.sign(to_sign(tmp_path).to_sign)
    with pytest.raises(InvalidRequest) as refused:
        add_signature(tmp_path, new_key().modulus, made)
    assert refused.value.reason == "sigstruct.forged"
    assert not (tmp_path / "worker.sig").exists()
    assert add_signature(tmp_path, signer.modulus, made).mrsigner is not None


@pytest.mark.parametrize("other", [Built(kind=VERIFIER), Built(isvsvn=2), Built(enclave_set=EnclaveSet.DEBUG)])
def test_what_would_bring_secrets_into_another_product_is_not_signed(
    tmp_path: Path, signer: KeySigner, other: Built
) -> None:
    """By the same signer, for the same product: else the service could not read what it writes."""
    Built().into(tmp_path)
    unsigned_file(tmp_path, "worker-import").write_bytes(Built().sigstruct(bytes(31) + b"\1").encode())
    made = signer.sign(to_sign(tmp_path, importer=True).to_sign)
    add_signature(tmp_path, signer.modulus, made, importer=True)
    read_sigstruct(tmp_path / "worker-import.sig").verify()
    unsigned_file(tmp_path, "worker-import").write_bytes(other.sigstruct(bytes(31) + b"\1").encode())
    with pytest.raises(CloisterError) as refused:
        to_sign(tmp_path, importer=True)
    assert refused.value.reason == "measurement.mismatched"


@pytest.mark.parametrize("enclave_set", [EnclaveSet.DEBUG, EnclaveSet.SIMULATED])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_only_a_hardened_enclave_is_signed(
    tmp_path: Path, signer: KeySigner, kind: Kind, enclave_set: EnclaveSet
) -> None:
    Built(kind=kind, enclave_set=enclave_set, debug_key=signer).into(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert refusal(tmp_path, signer) == "enclave.not_hardened"
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_debug_enclave_that_is_called_hardened_is_not_signed(tmp_path: Path, signer: KeySigner) -> None:
    """Whoever edits measurement.json still has a SIGSTRUCT that says debug, under another product."""
    Built(enclave_set=EnclaveSet.DEBUG, debug_key=signer).into(tmp_path)
    (tmp_path / "worker.sig").rename(unsigned_file(tmp_path, "worker"))
    raw = (tmp_path / "measurement.json").read_text()
    relabelled = raw.replace('"debug",', '"hardened",', 1)
    assert relabelled != raw
    (tmp_path / "measurement.json").write_text(relabelled)
    with pytest.raises(InvalidRequest) as refused:
        sign(tmp_path, signer)
    assert refused.value.reason == "measurement.mismatched"


def test_the_signature_is_over_what_was_measured(tmp_path: Path, signer: KeySigner) -> None:
    Built().into(tmp_path)
    unsigned = tmp_path / "worker.unsigned.sig"
    unsigned.write_bytes(Built().sigstruct(bytes(31) + b"\1").encode())
    with pytest.raises(InvalidRequest) as refused:
        sign(tmp_path, signer)
    assert refused.value.reason == "measurement.mismatched"


def test_two_debug_builds_have_two_signers(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Built(enclave_set=EnclaveSet.DEBUG).into(tmp_path / name)
    one, two = (read_sigstruct(tmp_path / name / "worker.sig") for name in ("one", "two"))
    assert one.enclavehash == two.enclavehash
    assert one.mrsigner != two.mrsigner


def test_a_key_that_others_can_read_does_not_sign(key_file: Path) -> None:
    key_file.chmod(0o640)
    with pytest.raises(NotReady) as refused:
        key_in(key_file)
    assert refused.value.reason == "file.exposed"


def test_what_sgx_does_not_take_does_not_sign(tmp_path: Path) -> None:
    made = {
        "exponent": write_key(rsa.generate_private_key(65537, 3072), tmp_path / "exponent"),
        "size": write_key(rsa.generate_private_key(3, 2048), tmp_path / "size"),
        "kind": write_key(ec.generate_private_key(ec.SECP256R1()), tmp_path / "kind"),
        "passphrase": write_key(rsa.generate_private_key(3, 2048), tmp_path / "locked", passphrase=b"secret"),
    }
    for path in made.values():
        with pytest.raises(InvalidRequest) as refused:
            key_in(path)
        assert refused.value.reason == "signer.malformed"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory, signer: KeySigner) -> Iterator[SoftToken]:
    folder = tmp_path_factory.mktemp("token")
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = soft_token(folder, monkeypatch)
        yield _filled(made, folder, signer)


def _filled(made: SoftToken, folder: Path, signer: KeySigner) -> SoftToken:
    good = serialization.load_pem_private_key(signer.private_pem(), None)
    assert isinstance(good, rsa.RSAPrivateKey)
    made.take(write_key(good, folder / "good.pem"), "production", "01")
    made.take(write_key(rsa.generate_private_key(65537, 3072), folder / "other.pem"), "tls", "02")
    return made


def test_a_token_signs_what_a_file_with_the_same_key_does(tmp_path: Path, token: SoftToken, signer: KeySigner) -> None:
    Built().into(tmp_path)
    with hardware_signer.opened(token.uri("production")) as held:
        sign(tmp_path, held)
    by_token = (tmp_path / "worker.sig").read_bytes()
    sign(tmp_path, signer)
    assert (tmp_path / "worker.sig").read_bytes() == by_token


@pytest.mark.parametrize(
    ("label", "others", "kind", "reason"),
    [
        ("tls", {}, InvalidRequest, "signer.malformed"),
        ("nothing", {}, NotFound, "name.unknown"),
        ("production", {"token": "other"}, NotFound, "name.unknown"),
        ("production", {"module_path": "/nowhere.so"}, NotReady, "token.unusable"),
        ("production", {"pin_source": "file:/nowhere"}, NotReady, "file.unreadable"),
    ],
)
def test_what_a_token_cannot_do_is_said(
    token: SoftToken, label: str, others: dict[str, str], kind: type[CloisterError], reason: str
) -> None:
    with pytest.raises(kind) as refused, hardware_signer.opened(token.uri(label, **others)):
        pass
    assert refused.value.reason == reason


def test_a_wrong_pin_is_said_and_not_shown(token: SoftToken, tmp_path: Path) -> None:
    wrong = tmp_path / "pin"
    wrong.write_text("999999")
    wrong.chmod(0o600)
    with (
        pytest.raises(NotReady) as refused,
        hardware_signer.opened(token.uri("production", pin_source=f"file:{wrong}")),
    ):
        pass
    assert refused.value.reason == "token.locked"
    assert "999999" not in str(refused.value)
