"""The OpenAPI document against the real listener: nothing that is not in it, and no server error, whatever is sent.

What a model takes, its document cannot say: that a request of the right form is refused for its tensors is no fault.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from cloister.gateway.rest.openapi import openapi_document
from cloister.gateway.rest.routes import rest_routes
from fakes.running_rest import RestRig
from fakes.worker_link import FakeWorker

EXAMPLES = 10
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.unsupported_method,
]


def test_every_path_that_is_served_is_documented_and_no_other() -> None:
    document = schemathesis.openapi.from_dict(_document()).raw_schema
    documented = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    router = rest_routes(None, b"")  # type: ignore[arg-type]  # no request is made
    served = {(route.path, method) for route in router.routes for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert served == documented


# A gateway in this process draws from `random` too, which Hypothesis takes for a strategy that does.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.attack("G29")
@pytest.mark.asyncio(loop_scope="package")
async def test_no_request_gets_an_undocumented_answer_or_a_server_error(rest: RestRig, worker: FakeWorker) -> None:
    models = list(worker.models)
    seen = await asyncio.to_thread(_play, rest)
    worker.serve_models(*models)
    assert seen >= {200, 400, 404}


def _play(rest: RestRig) -> set[int]:
    seen: set[int] = set()
    for operation in _operations():

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=_cases(operation), known=st.booleans())
        def play(case: Any, known: bool) -> None:
            if known and "model" in case.path_parameters:
                case.path_parameters = {
                    **case.path_parameters,
                    "model": "tiny",
                    **({"version": "1"} if "version" in case.path_parameters else {}),
                }
            response = case.call(base_url=rest.address, **_as_operator(rest))
            seen.add(response.status_code)
            case.validate_response(response, checks=CHECKS)

        play()
    return seen


def _cases(operation: Any) -> Any:
    modes = schemathesis.GenerationMode
    return operation.as_strategy(generation_mode=modes.POSITIVE) | operation.as_strategy(generation_mode=modes.NEGATIVE)


def _operations() -> Iterator[Any]:
    for result in schemathesis.openapi.from_dict(_document()).get_all_operations():
        yield result.ok()


def _document() -> Any:
    return json.loads(openapi_document())


def _as_operator(rest: RestRig) -> dict[str, Any]:
    files = rest.files("operator", "olga")
    return {
        "cert": (str(files / "certificate.pem"), str(files / "key.pem")),
        "verify": str(files / "roots.pem"),
        "timeout": 20,
    }
