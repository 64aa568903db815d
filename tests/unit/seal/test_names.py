from __future__ import annotations

import pytest

from cloister.errors import InvalidRequest
from cloister.seal.names import check_file, check_instance, check_model


@pytest.mark.parametrize("name", ["a", "0", "resnet-50", "bert.base_128", "x" * 63])
def test_model_names(name: str) -> None:
    check_model(name, 1)


@pytest.mark.attack("F04")
@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "A", "a/b", "a..b", "a b", "a\n", "a\x00", "é", "ａ", "x" * 64, None, b"a"]
)
def test_what_is_no_model_name(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_model(name, 1)


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", 1 << 63])
def test_what_is_no_model_version(version: int) -> None:
    with pytest.raises(InvalidRequest):
        check_model("resnet", version)


@pytest.mark.parametrize("instance", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 32 + "\n", None])
def test_what_is_no_instance(instance: str) -> None:
    check_instance("0123456789abcdef" * 2)
    with pytest.raises(InvalidRequest):
        check_instance(instance)


@pytest.mark.parametrize("name", ["model.xml", "variables/variables.data-00000-of-00001", "a/b/c", "_x", "A-1"])
def test_file_names(name: str) -> None:
    check_file(name)


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", "./a", ".a", "a\\b", "a\x00", "a\n", "é", "/".join("abcdefghi")]
)
def test_what_is_no_file_name(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_file(name)
