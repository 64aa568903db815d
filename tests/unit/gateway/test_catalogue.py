"""What workers say they serve."""

from __future__ import annotations

import pytest

from cloister.api.oip.inference_pb2 import ModelMetadataResponse
from cloister.api.v1.model_pb2 import SignedJobEpoch, SignedManifest
from cloister.api.v1.worker_pb2 import ModelState
from cloister.errors import InvalidRequest
from cloister.gateway.catalogue import (
    MAX_METADATA_BYTES,
    MAX_MODELS,
    calls_per_slot,
    default_version,
    merged_metadata,
    quick_models,
    read_models,
)
from fakes.gateway_parts import model_state


def test_models_by_name_and_version() -> None:
    models, missing = read_models([model_state("a", "1"), model_state("a", "12"), model_state("b", "3")])
    assert not missing
    assert {name: sorted(versions) for name, versions in models.items()} == {"a": ["1", "12"], "b": ["3"]}


def test_quick_models_are_those_of_which_a_version_is_evaluated_inline() -> None:
    inline, pooled = (
        ModelMetadataResponse(properties={"inline": said}).SerializeToString() for said in ("true", "false")
    )
    states = [
        ModelState(name="both", version="1", metadata=pooled),
        ModelState(name="both", version="2", metadata=inline),
        ModelState(name="pooled", version="1", metadata=pooled),
        model_state("silent"),
        ModelState(name="broken", version="1", metadata=b"\xff"),
    ]
    assert quick_models(read_models(states)[0]) == {"both"}


def test_a_slot_holds_as_many_calls_as_of_the_slowest_version() -> None:
    states = [
        ModelState(name="quick", version="1", calls_per_slot=8),
        ModelState(name="quick", version="2", calls_per_slot=8),
        ModelState(name="mixed", version="1", calls_per_slot=8),
        ModelState(name="mixed", version="2"),
    ]
    assert calls_per_slot(read_models(states)[0]) == {"quick": 8, "mixed": 1}
    assert calls_per_slot({}) == {}


def test_models_that_should_be_served_and_are_not() -> None:
    unavailable, loading = ModelState.STATE_UNAVAILABLE, ModelState.STATE_LOADING
    models, missing = read_models(
        [
            model_state("a", "1"),
            ModelState(name="a", version="2", state=unavailable, reason="memory.full: no"),
            ModelState(name="b", state=loading),
        ]
    )
    assert {name: sorted(versions) for name, versions in models.items()} == {"a": ["1"]}
    assert [(state.name, state.version) for state in missing] == [("a", "2"), ("b", "")]
    for wrong in (
        [model_state("a", "1"), ModelState(name="a", version="1", state=loading)],
        [ModelState(name="a", state=loading), ModelState(name="a", state=unavailable)],
        [ModelState(name="a", version="0", state=loading)],
        [ModelState(name="a", version="1", state=unavailable, reason="x" * 501)],
    ):
        with pytest.raises(InvalidRequest):
            read_models(wrong)


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a..b", "é", "a" * 64, "a\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidRequest):
        read_models([model_state(name)])


@pytest.mark.parametrize("version", ["", "0", "-1", "01", "1.0", "1" * 11, "１"])
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(InvalidRequest):
        read_models([model_state("a", version)])


def test_a_list_that_repeats_itself_or_is_too_large() -> None:
    with pytest.raises(InvalidRequest):
        read_models([model_state("a", "1"), model_state("a", "1")])
    read_models(ModelState(name=f"m{number}", version="1") for number in range(MAX_MODELS))
    with pytest.raises(InvalidRequest):
        read_models(ModelState(name=f"m{number}", version="1") for number in range(MAX_MODELS + 1))
    with pytest.raises(InvalidRequest):
        read_models([ModelState(name="a", version="1", metadata=bytes(MAX_METADATA_BYTES + 1))])
    manifest = SignedManifest(manifest=bytes(MAX_METADATA_BYTES))
    with pytest.raises(InvalidRequest):
        read_models([ModelState(name="a", version="1", manifest=manifest)])
    job_epoch = SignedJobEpoch(statement=bytes(MAX_METADATA_BYTES))
    with pytest.raises(InvalidRequest):
        read_models([ModelState(name="a", version="1", job_epoch=job_epoch)])


def test_the_default_is_the_newest_version_that_all_workers_serve() -> None:
    assert default_version([["9", "10", "2"]]) == "10"
    assert default_version([["9", "10"], ["9"]]) == "9"
    assert default_version([["9"], ["10"]]) == "10"
    assert default_version([]) == default_version([[]]) == ""


def test_metadata_of_several_workers_tells_all_versions() -> None:
    states = [model_state(version="2"), model_state(version="10"), model_state(version="2")]
    merged = ModelMetadataResponse.FromString(merged_metadata(states, "10"))
    assert (merged.name, merged.platform, list(merged.versions)) == ("tiny", "openvino", ["2", "10"])
    assert [tensor.name for tensor in merged.inputs] == ["x"]
    assert merged_metadata(states, "2")
    assert merged_metadata(states, "3") == b""
    assert merged_metadata([], "1") == b""


def test_metadata_that_does_not_parse_leaves_name_and_versions() -> None:
    state = ModelState(name="tiny", version="1", metadata=b"\xff")
    merged = ModelMetadataResponse.FromString(merged_metadata([state], "1"))
    assert (merged.name, list(merged.versions), list(merged.inputs)) == ("tiny", ["1"], [])
