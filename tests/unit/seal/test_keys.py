from __future__ import annotations

import copy
import pickle  # noqa: TID251  # shown to refuse

import pytest

from cloister.seal.keys import Secret, derive, expand


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(b"do not tell anyone")
    assert "tell" not in f"{secret} {secret!r} {[secret]} {vars(type(secret))}"
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="not serialised"):
        copy.copy(secret)
    with pytest.raises(TypeError):
        hash(secret)


def test_equal_secrets_are_equal_and_others_are_not() -> None:
    assert Secret(b"a") == Secret(bytearray(b"a"))
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert len(Secret.random()) == 32
    assert Secret.random() != Secret.random()


def test_derivation_is_hkdf_sha256() -> None:
    """RFC 5869, test case 1."""
    secret, info = Secret(b"\x0b" * 22), bytes(range(0xF0, 0xFA))
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert derive(secret, salt=bytes(range(13)), info=info, length=42).reveal().hex() == expected
    extracted = Secret(bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"))
    assert expand(extracted, info, 42).reveal().hex() == expected


@pytest.mark.attack("I04")
def test_a_secret_is_overwritten_where_it_lies() -> None:
    secret = Secret(b"do not tell anyone")
    view = secret.view
    secret.wipe()
    assert not any(view)
    assert (len(secret), secret.reveal()) == (18, bytes(18))
    assert view.readonly
