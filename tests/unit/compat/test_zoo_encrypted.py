"""Models that Analytics Zoo and BigDL PPML encrypted, decrypted: by bytes that were recorded there, and by models."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.compat.zoo.ciphers import Scheme, content_of, schemes_of_data_key, schemes_of_secret
from cloister.compat.zoo.encrypted_model import decrypted
from cloister.errors import InvalidRequest, SealBroken
from cloister.seal.keys import Secret
from fakes import zoo_encryption
from fakes.zoo_encryption import DATA_KEY, SALT, SCHEMES, SECRET, as_their_jvm, encrypted

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/zoo-crypto.json").read_text())
MODELS = Path(__file__).parents[2] / "vectors/models"
XML = b"<?xml version='1.0'?><net name='caf\xc3\xa9'><layers/></net>"
WEIGHTS = bytes(range(256)) * 8
NAMES = {"aescbc": "AESCBC with {} bits", "aesgcm": "AESGCM with {} bits", "aes256_v0.9": "AES256"}


def schemes(secret: str = SECRET, salt: str = SALT) -> Mapping[str, Scheme]:
    found = schemes_of_secret(Secret(secret.encode()), Secret(salt.encode()))
    return {scheme.name: scheme for scheme in found}


KNOWN = schemes()


@pytest.mark.parametrize("vector", [pytest.param(each, id=each["id"]) for each in VECTORS])
def test_what_was_recorded_there_is_decrypted(vector: Mapping[str, object]) -> None:
    if vector["scheme"] == "bigdl_ppml_common":
        scheme = schemes_of_data_key(Secret(str(vector["data_key_plain"]).encode()))[0]
    else:
        known = schemes(str(vector["secret"]), str(vector["salt"]))
        scheme = known[NAMES[str(vector["scheme"])].format(vector["key_bits"])]
    plain = bytes.fromhex(str(vector["plain_hex"]))
    expected = as_their_jvm(plain) if vector.get("latin1_utf8") else plain
    found = scheme.decrypt(content_of(memoryview(str(vector["file_content_b64"]).encode())))
    assert found == expected


def opened(files: Mapping[str, bytes], head: str, by: Mapping[str, Scheme] = KNOWN) -> tuple[str, dict[str, bytes]]:
    views = {name: memoryview(content) for name, content in files.items()}
    with decrypted(views, head, list(by.values())) as model:
        return model.scheme, {name: bytes(content) for name, content in model.files.items()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("written", [as_their_jvm, bytes], ids=["latin-1", "bytes"])
def test_each_scheme_is_found_by_trying(scheme: str, written: Callable[[bytes], bytes]) -> None:
    files = {name: encrypted(written(plain), scheme) for name, plain in (("m.xml", XML), ("m.bin", WEIGHTS))}
    assert opened(files, "m.xml") == (scheme, {"m.xml": XML, "m.bin": WEIGHTS})


def test_text_and_its_weights_may_have_been_written_in_different_ways() -> None:
    files = {"m.xml": encrypted(XML, "AES256"), "m.bin": encrypted(as_their_jvm(WEIGHTS), "AES256") + b"\r\n"}
    assert opened(files, "m.xml") == ("AES256", {"m.xml": XML, "m.bin": WEIGHTS})


@pytest.mark.parametrize("rest", range(0, 32, 5))
def test_their_python_tool_pads_to_32_bytes(rest: int) -> None:
    xml = XML + b" " * rest
    files = {"m.xml": encrypted(xml, "AESCBC with 256 bits", block=32)}
    assert opened(files, "m.xml")[1] == {"m.xml": xml}


def test_bigdls_files_are_read_as_bytes_and_in_base64() -> None:
    by = {scheme.name: scheme for scheme in schemes_of_data_key(Secret(DATA_KEY.encode()))}
    for encrypt, name in ((zoo_encryption.in_container, "container"), (zoo_encryption.natively, "nativeaescbc")):
        raw = {"m.xml": encrypt(XML), "m.bin": base64.b64encode(encrypt(WEIGHTS))}
        assert opened(raw, "m.xml", by) == (f"BigDL's {name}", {"m.xml": XML, "m.bin": WEIGHTS})


@pytest.mark.parametrize(
    ("head", "path"),
    [
        ("net.onnx", "onnx_lstm"),
        ("net.pdmodel", "paddle_cnn"),
        ("net.tflite", "tflite_cnn"),
        ("frozen.pb", "frozen_cnn"),
        ("saved_model.pb", "saved_two"),
    ],
)
def test_models_of_other_formats_are_recognised(head: str, path: str) -> None:
    suffix = head.rpartition(".")[2]
    (model,) = [each for each in (MODELS / path).rglob(f"*.{suffix}") if each.name != "fingerprint.pb"]
    plain = model.read_bytes()
    assert opened({head: encrypted(as_their_jvm(plain), "AESCBC with 128 bits")}, head)[1] == {head: plain}
    with pytest.raises(InvalidRequest):
        opened({head: encrypted(plain[: len(plain) // 2], "AESCBC with 128 bits")}, head)


def test_a_wrong_key_whose_padding_is_right_by_chance_is_not_believed() -> None:
    """The first scheme that is tried meets good padding here, and what it gives is no model."""
    tried = schemes()["AESCBC with 256 bits"]
    for _ in range(5_000):
        xml = encrypted(XML, "AESCBC with 128 bits")
        try:
            tried.decrypt(content_of(memoryview(xml)))
        except SealBroken:
            continue
        break
    else:
        pytest.fail("one wrong key in 255 should have passed")
    assert opened({"m.xml": xml}, "m.xml") == ("AESCBC with 128 bits", {"m.xml": XML})


def test_weights_that_do_not_open_as_the_topology_did_are_refused() -> None:
    files = {"m.xml": encrypted(XML, "AES256"), "m.bin": encrypted(WEIGHTS, "AESGCM with 128 bits")[:-8]}
    with pytest.raises(InvalidRequest, match=r"'m\.xml' does not come out as a model"):
        opened(files, "m.xml")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(encrypted(XML, "AES256", secret="another"), id="secret"),
        pytest.param(encrypted(b"<html/>", "AES256"), id="not a model"),
        pytest.param(encrypted(b"<!DOCTYPE net []>" + XML, "AES256"), id="a document type"),
        pytest.param(XML, id="in clear"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_cannot_be_told_apart_is_said_not_to_be(wrong: bytes) -> None:
    with pytest.raises(InvalidRequest, match="these formats do not say which") as refused:
        opened({"m.xml": wrong}, "m.xml")
    assert refused.value.reason == "model.undecipherable"
    assert SECRET not in str(refused.value)


def test_a_container_that_was_changed_anywhere_is_refused() -> None:
    (container, _) = schemes_of_data_key(Secret(DATA_KEY.encode()))
    whole = zoo_encryption.in_container(XML)
    assert container.decrypt(memoryview(whole)) == XML
    for at in (0, 7, 399, 400, len(whole) - 1):
        changed = bytearray(whole)
        changed[at] ^= 1
        with pytest.raises(SealBroken):
            container.decrypt(memoryview(changed))


@pytest.mark.parametrize("key", ["", "AAAA", "no base64 at all", DATA_KEY + "\nmore"])
def test_what_is_no_data_key_is_said_to_be_none(key: str) -> None:
    with pytest.raises(InvalidRequest, match="data key"):
        schemes_of_data_key(Secret(key.encode()))


@given(st.binary(max_size=600))
def test_any_bytes_are_a_plaintext_or_broken(content: bytes) -> None:
    for scheme in (*KNOWN.values(), *schemes_of_data_key(Secret(DATA_KEY.encode()))):
        try:
            assert len(scheme.decrypt(memoryview(content))) <= len(content)
        except SealBroken:
            continue


def test_nothing_is_left_of_what_was_decrypted() -> None:
    views = {"m.xml": memoryview(encrypted(XML, "AES256")), "m.bin": memoryview(encrypted(WEIGHTS, "AES256"))}
    with decrypted(views, "m.xml", list(KNOWN.values())) as model:
        kept = dict(model.files)
        assert bytes(kept["m.bin"]) == WEIGHTS
    assert [set(bytes(content)) for content in kept.values()] == [{0}, {0}]
