"""What is served, and which version answers where none is named."""

import pytest

from cloister.errors import NotFound
from fakes.attested_worker import Inside


@pytest.fixture
def inside():
    return Inside()


def test_the_highest_version_answers_for_the_name(inside):
    ten = inside.also_serve(version="10", digest=bytes(32))
    assert inside.served.find("iris", "").version == "10"
    assert inside.served.find("iris", "2").version == "2"
    assert inside.served.digest_of("iris", "") == bytes(32)
    inside.served.drop(ten)
    assert inside.served.find("iris", "").version == "2"
    assert inside.served.digest_of("iris", "10") is None
    inside.served.drop(inside.model)
    with pytest.raises(NotFound):
        inside.served.find("iris", "")


def test_an_ended_lease_is_no_model(inside):
    inside.counter.pass_s(3600)
    assert inside.served.digest_of("iris", "2") is None
    with pytest.raises(NotFound):
        inside.served.find("iris", "")


def test_only_news_is_told(inside):
    told = []
    with inside.served.watching(lambda: told.append(len(inside.served))):
        inside.also_serve(ends_at_s=inside.model.ends_at_s + 5)
        assert told == []
        other = inside.also_serve(name="wine")
        inside.also_serve(allow_plain=False)
        inside.served.drop(other)
        inside.served.drop(other)
    inside.served.drop(inside.model)
    assert told == [2, 2, 1]
