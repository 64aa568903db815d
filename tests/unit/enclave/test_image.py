"""An image is made of exactly what the lock names, or not at all."""

from dataclasses import replace

import pytest

from cloister.enclave import image, interpreter
from cloister.enclave.image import build_image
from cloister.enclave.interpreter import require_interpreter
from cloister.enclave.kinds import REDIS
from cloister.enclave.tcb import CarriedFile, Lock, Part, read_lock
from cloister.errors import InvalidRequest, NotReady

LIBRARY = "usr/lib/x86_64-linux-gnu/libz.so.1"


@pytest.fixture
def lock() -> Lock:
    """Two files that redis-server could have: one of Debian's, and one of a wheel's; both as they are here."""
    try:
        require_interpreter()
    except NotReady as error:
        pytest.skip(str(error))
    return Lock(parts=(part("debian", "zlib1g", LIBRARY), part("wheel", "structlog", "structlog/__init__.py")))


def part(origin, name, path):
    version, source = image.installed_version(origin, name), image.located(origin, name, path)
    file = CarriedFile(path, image._sha256(source), frozenset({REDIS.name}))
    return Part(origin=origin, name=name, version=version, because="a test", files=(file,))


def changed(lock, **changes):
    return replace(lock, parts=(lock.parts[0], replace(lock.parts[1], **changes)))


def test_files_are_where_python_and_the_loader_look(lock, tmp_path):
    build_image(REDIS, tmp_path, lock=lock)
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {"root/lib/system/libz.so.1", "root/lib/python3.11/structlog/__init__.pyc"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "0.1"}, r"tcb.lock names structlog 0.1, and \d+\S+ is installed here: mend it with 'make setup'"),
        (
            {"name": "never-made"},
            "tcb.lock names never-made .*, and it is not installed here: mend it",
        ),
        ({}, "structlog/__init__.py of structlog .* is not the file that tcb.lock names, so somebody changed it here"),
    ],
)
def test_a_file_that_is_another_one_stops_the_build_and_says_whose(lock, tmp_path, changes, said):
    other = replace(lock.parts[1].files[0], sha256="0" * 64)
    with pytest.raises(NotReady, match=said) as raised:
        build_image(REDIS, tmp_path, lock=changed(lock, files=(other,), **changes))
    assert raised.value.reason == "image.differs"
    assert not (tmp_path / "root").exists()


def test_a_package_of_debians_is_mended_by_apt(lock, tmp_path):
    other = replace(lock.parts[0], version="1:1.0")
    other = replace(other, files=(replace(other.files[0], sha256="0" * 64),))
    with pytest.raises(
        NotReady, match=r"names zlib1g 1:1\.0, and .* mend it with 'apt-get install zlib1g=1:1.0', or make"
    ):
        build_image(REDIS, tmp_path, lock=replace(lock, parts=(other,)))


def test_a_file_for_which_an_enclave_has_no_place_is_refused(lock, tmp_path):
    with pytest.raises(InvalidRequest, match="usr/share/doc/zlib1g/copyright, for which an enclave has no place"):
        build_image(REDIS, tmp_path, lock=Lock(parts=(part("debian", "zlib1g", "usr/share/doc/zlib1g/copyright"),)))


def test_an_image_is_never_built_over_another(lock, tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(InvalidRequest, match="build into an empty folder"):
        build_image(REDIS, tmp_path, lock=lock)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("sys.platform", "darwin", "on Linux on x86-64"),
        ("sys.version_info", (3, 13, 1), "make setup PYTHON=/usr/bin/python3.11"),
    ],
)
def test_another_system_or_python_is_told_what_it_would_have_to_be(monkeypatch, tmp_path, name, value, said):
    monkeypatch.setattr(interpreter, "sys", Elsewhere(name, value))
    with pytest.raises(NotReady, match=said) as raised:
        build_image(REDIS, tmp_path)
    assert raised.value.reason == "image.impossible"


class Elsewhere:
    """`sys` of another machine."""

    platform = "linux"
    version_info = (3, 11, 2)

    def __init__(self, name, value):
        setattr(self, name.removeprefix("sys."), value)


def test_the_lock_that_is_measured_is_the_one_that_is_read():
    assert read_lock().ours_of(REDIS) == []
