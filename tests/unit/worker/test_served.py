"""What is served, and which version answers where none is named."""

import pytest

from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import NotFound
from cloister.worker.served import Missing
from fakes.attested_worker import Inside
from fakes.engines import FakeEngine


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


def told(inside):
    return [(state.name, state.version, state.state, state.reason) for state in inside.served.states()]


def test_what_is_missing_is_told_until_it_is_served(inside):
    changes = []
    with inside.served.watching(lambda: changes.append(1)):
        inside.served.miss("iris", "3", Missing(ModelState.STATE_UNAVAILABLE, "memory.full: no"))
        inside.served.miss("iris", "3", Missing(ModelState.STATE_UNAVAILABLE, "memory.full: no"))
        inside.served.miss("wine", "", Missing(ModelState.STATE_LOADING))
        assert told(inside) == [
            ("iris", "2", ModelState.STATE_READY, ""),
            ("iris", "3", ModelState.STATE_UNAVAILABLE, "memory.full: no"),
            ("wine", "", ModelState.STATE_LOADING, ""),
        ]
        inside.served.miss("wine", "", None)
        inside.also_serve(version="3")
        assert [state.version for state in inside.served.states()] == ["2", "3"]
        inside.served.miss("iris", "3", None)
    assert len(changes) == 4
    with pytest.raises(NotFound):
        inside.served.find("wine", "")


def test_a_retired_model_is_told_of_no_more_and_still_found_by_its_version(inside):
    three = inside.also_serve(version="3")
    inside.served.retire(three)
    inside.also_serve(version="3", ends_at_s=three.ends_at_s + 5)  # renewed meanwhile
    assert [state.version for state in inside.served.states()] == ["2"]
    assert (inside.served.find("iris", "").version, inside.served.find("iris", "3").version) == ("2", "3")
    inside.served.drop(three)
    inside.served.retire(three)
    with pytest.raises(NotFound):
        inside.served.find("iris", "3")
    inside.also_serve(version="3")
    assert inside.served.find("iris", "").version == "3"


def test_one_that_goes_takes_nothing_from_one_that_came_in_its_place(inside):
    gone = inside.model
    inside.served.retire(gone)
    assert inside.served.states() == []
    back = inside.also_serve(engine=FakeEngine())
    assert [state.version for state in inside.served.states()] == ["2"]
    inside.served.retire(gone)
    inside.served.drop(gone)
    assert inside.served.find("iris", "") is back
    assert [state.version for state in inside.served.states()] == ["2"]
