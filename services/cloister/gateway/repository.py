"""The model repository extension: which models there are and why not, and an operator's word to load or unload one.

What is loaded is the workers' to decide (cloister.worker.repository): the gateway passes the word on to all of them and
waits. Nothing that comes with it does: who could send a configuration or files along could bring a model past its
owner, so both are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final

from cloister.api.oip.inference_pb2 import RepositoryIndexResponse
from cloister.api.v1.worker_pb2 import ModelOrder, ModelState
from cloister.errors import CloisterError, InvalidRequest, NotAllowed, NotFound, NotReady, Unavailable
from cloister.gateway.fleet import Fleet
from cloister.gateway.member import Member
from cloister.gateway.routing import NAME, VERSION
from cloister.kit.log import get_logger

LOAD: Final = ModelOrder.KIND_LOAD
UNLOAD: Final = ModelOrder.KIND_UNLOAD
_STATES: Final = {
    ModelState.STATE_READY: "READY",
    ModelState.STATE_LOADING: "LOADING",
    ModelState.STATE_UNAVAILABLE: "UNAVAILABLE",
}
_log = get_logger()


_Outcome = CloisterError | TimeoutError | None


def index(fleet: Fleet, *, ready_only: bool, sees: Callable[[str], bool]) -> RepositoryIndexResponse:
    """Every version that some worker serves or should serve, of the models that whoever asks sees.

    Ready where one worker serves it, with why others do not.
    """
    states: dict[tuple[str, str], list[ModelState]] = {}
    for state in filter(lambda state: sees(state.name), fleet.all_states()):
        states.setdefault((state.name, state.version), []).append(state)
    answer = RepositoryIndexResponse()
    for (name, version), found in sorted(states.items(), key=_by_number):
        best = min(found, key=lambda state: state.state)
        if ready_only and best.state != ModelState.STATE_READY:
            continue
        reasons = {state.reason for state in found if state.reason}
        ready = sum(state.state == ModelState.STATE_READY for state in found)
        said = "; ".join(sorted(reasons))
        reason = f"{ready} of {len(found)} workers: {said}" if reasons and len(found) > 1 else said
        answer.models.add(name=name, version=version, state=_STATES[best.state], reason=reason)
    return answer


def check_parameters(parameters: Collection[str], known: Collection[str] = ()) -> None:
    """Refuse what could bring a model, or a way to run it, past its owner.

    Raises:
        InvalidRequest: A parameter is not one of those that are known (`parameter.unknown`).
    """
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InvalidRequest(
            f"the parameter '{unknown[0][:80]}' is not known here: a model comes sealed from its owner, and nothing of "
            "it can be set or sent along",
            reason="parameter.unknown",
        )


async def order(fleet: Fleet, kind: ModelOrder.Kind, text: str, timeout_s: float) -> None:
    """Have all workers that may load or unload a model, and wait until they have.

    Args:
        fleet: Who is ordered.
        kind: `LOAD` or `UNLOAD`.
        text: `name` or `name@version`.
        timeout_s: For all of them.

    Raises:
        InvalidRequest: Not a model.
        NotFound: Unload: no worker serves it.
        NotAllowed: No worker's settings let an operator do this (`model.not_loadable`).
        NotReady: Some workers have obeyed and some have not (`model.partly`).
        CloisterError, TimeoutError: The first reason why none has.
    """
    name, at, version = text.partition("@")
    if not NAME.fullmatch(name) or (at and not VERSION.fullmatch(version)):
        raise InvalidRequest(f"'{text[:80]}' is neither a model's name nor name@version", reason="model.misnamed")
    members = _meant(fleet, kind, name, version)
    outcomes = await _ordered(members, kind, name, version, timeout_s)
    # Those whose settings let nobody order anything were not meant, as long as others were.
    meant = [each for each in outcomes if not isinstance(each, NotAllowed)] or outcomes
    errors = [each for each in meant if each is not None]
    verb = ModelOrder.Kind.Name(kind).removeprefix("KIND_").lower()
    _log.info("model.ordered", kind=verb, model=text, workers=len(meant), failed=len(errors))
    if len(errors) == len(meant):
        raise errors[0]
    if errors:
        raise NotReady(
            f"{len(meant) - len(errors)} of {len(meant)} workers did {verb} {text}; of the others the first said: "
            f"{errors[0]}",
            reason="model.partly",
        )


def _meant(fleet: Fleet, kind: ModelOrder.Kind, name: str, version: str) -> list[Member]:
    members = [member for member in fleet.members if member.takes_calls]
    if not members:
        raise Unavailable("no worker can be reached now")
    if kind == UNLOAD:
        members = [member for member in members if _has(member, name, version)]
        if not members:
            raise NotFound("no worker serves this model")
    return members


async def _ordered(
    members: list[Member], kind: ModelOrder.Kind, name: str, version: str, timeout_s: float
) -> list[_Outcome]:
    """What each came to, in order: None, or why not."""

    async def one(member: Member) -> _Outcome:
        try:
            async with asyncio.timeout(timeout_s):
                if member.link is None:
                    raise Unavailable("the worker was lost before it had obeyed", reason="link.closed")
                await member.link.order(kind, name, version)
        except (CloisterError, TimeoutError) as error:
            return error
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(member)) for member in members]
    return [task.result() for task in tasks]


def _has(member: Member, name: str, version: str) -> bool:
    return any(state.name == name and version in ("", state.version) for state in member.states())


def _by_number(item: tuple[tuple[str, str], Any]) -> tuple[str, int]:
    (name, version), _ = item
    return name, int(version or 0)
