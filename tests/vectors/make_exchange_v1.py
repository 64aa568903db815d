"""Make `exchange-v1.json`: whole requests and answers in their envelopes, with every step between, and broken ones.

    PYTHONPATH=tests python -m vectors.make_exchange_v1

Two workers, one of each HPKE suite, and three requests of one client to both: the first brings two openings and is
answered by the X-Wing worker, the second brings one opening and is answered with an error inside the seal, the third
is answered by the X25519 worker. The same bytes come out each time; openings are kept from the file that is there, as
long as they still open (HPKE takes randomness that cannot be handed in).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from cloister.api.oip.inference_pb2 import ModelInferRequest, ModelInferResponse
from cloister.api.v1.seal_pb2 import OpenedResponse, SealedRequest
from cloister.api.v1.worker_pb2 import Failure
from cloister.seal import framing
from cloister.seal import session_keys as keys
from vectors import world
from vectors.exchange import NOT_AFTER, WORKERS, Asked, Asking, carried_back, good, proof, reply, sealed_answer
from vectors.world import CLUSTER, MODEL, MODEL_DIGEST, NOW, VERSION, Worker

PATH = world.FOLDER / "exchange-v1.json"
FAILURE = Failure(
    error="InvalidRequest", reason="request.invalid", message="tensor 'x': shape [1, 5], the model takes [-1, 4]"
)


def answered(worker: Worker, asked: Asked, opened: OpenedResponse) -> dict[str, Any]:
    """The steps of one answer."""
    sealed = sealed_answer(worker, asked, opened)
    failure = opened.failure if opened.WhichOneof("outcome") == "failure" else None
    return {
        "answered_by": worker.instance,
        "opened_response": opened.SerializeToString().hex(),
        "response": opened.response.hex(),
        "failure": failure and {"error": failure.error, "reason": failure.reason, "message": failure.message},
        "response_key": asked.response_key(worker).hex(),
        "response_head": framing.split(sealed, keys.RESPONSE_CIPHERTEXT)[1].hex(),
        "sealed_response": sealed.hex(),
        "answer": carried_back(sealed, asked).SerializeToString(deterministic=True).hex(),
    }


def _broken(asked: Asked, other: ModelInferResponse) -> Iterator[tuple[str, bytes]]:
    """Answers to the first request, none of which may be believed."""
    sealed = sealed_answer(world.XWING, asked, good(world.XWING, asked, 0))
    for name, message in _envelopes(carried_back(sealed, asked), other):
        yield name, message.SerializeToString(deterministic=True)
    for name, raw in _framings(sealed):
        yield name, carried_back(raw, asked).SerializeToString(deterministic=True)
    for name, opened in _contents(asked):
        raw = sealed_answer(world.XWING, asked, opened)
        yield name, carried_back(raw, asked).SerializeToString(deterministic=True)


def _envelopes(sound: ModelInferResponse, other: ModelInferResponse) -> Iterator[tuple[str, ModelInferResponse]]:
    def changed(edit: Callable[[ModelInferResponse], object]) -> ModelInferResponse:
        made = ModelInferResponse.FromString(sound.SerializeToString())
        edit(made)
        return made

    yield "the answer in clear", ModelInferResponse.FromString(reply(0))
    yield "the answer to another request", other
    yield "another version of sealing", changed(lambda m: _say(m, "cloister-seal", "v2"))
    yield "no word of sealing", changed(lambda m: m.parameters.clear())
    yield "a parameter more", changed(lambda m: _say(m, "x", "y"))
    yield "another model's name", changed(lambda m: setattr(m, "model_name", "bert"))
    yield "another version", changed(lambda m: setattr(m, "model_version", "2"))
    yield "another id", changed(lambda m: setattr(m, "id", "question 9"))
    yield "another tensor's name", changed(lambda m: setattr(m.outputs[0], "name", "y"))
    yield "another datatype", changed(lambda m: setattr(m.outputs[0], "datatype", "BYTES"))
    yield "a shape that is not its length", changed(lambda m: m.outputs[0].shape.__setitem__(0, 1))
    yield "contents beside the raw ones", changed(lambda m: m.outputs[0].contents.uint_contents.append(1))
    yield "two tensors", changed(lambda m: m.outputs.add(name="z", datatype="UINT8", shape=[0]))
    yield "two contents", changed(lambda m: m.raw_output_contents.append(b"z"))
    yield "no content", changed(lambda m: m.ClearField("raw_output_contents"))


def _say(message: ModelInferResponse, name: str, text: str) -> None:
    message.parameters[name].string_param = text


def _framings(sealed: bytes) -> Iterator[tuple[str, bytes]]:
    fields, head, ciphertext = framing.split(sealed, keys.RESPONSE_CIPHERTEXT)
    body = bytes(ciphertext)
    yield "cut by a byte", sealed[:-1]
    yield "longer by a byte", sealed + b"\0"
    yield "a bit of the ciphertext", head + bytes([body[0] ^ 1]) + body[1:]
    yield "a bit of the tag", head + body[:-1] + bytes([body[-1] ^ 0x80])
    yield "another recipient's name", sealed.replace(world.XWING.instance.encode(), world.X25519.instance.encode())
    yield "a stranger's name", sealed.replace(world.XWING.instance.encode(), b"0" * 32)
    yield "no name", framing.head(b"", keys.RESPONSE_CIPHERTEXT, len(body)) + body
    yield "a second name", framing.head(fields + b"\x0a\x00", keys.RESPONSE_CIPHERTEXT, len(body)) + body
    yield "a field after the ciphertext", sealed + b"\x1a\x00"
    yield "the ciphertext first", head[len(fields) :] + body + fields
    yield (
        "a length in more bytes than it needs",
        fields + b"\x12" + bytes([len(body) & 0x7F | 0x80]) + (bytes([len(body) >> 7 | 0x80, 0]) + body),
    )
    yield "empty", b""


def _contents(asked: Asked) -> Iterator[tuple[str, OpenedResponse]]:
    """What the worker sealed is not the answer: signed by another, about something else, or nothing at all."""
    worker, response = world.XWING, reply(0)

    def says(**changes: Any) -> OpenedResponse:
        return OpenedResponse(response=response, receipt=proof(worker, asked, response, **changes))

    yield "no outcome", OpenedResponse()
    yield "no receipt", OpenedResponse(response=response)
    forged = proof(world.X25519, asked, response, instance=worker.instance, ear_id=worker.ear_id)
    yield "a receipt by another worker's key", OpenedResponse(response=response, receipt=forged)
    yield "a receipt of another worker", says(instance=world.X25519.instance)
    yield "a receipt for another request id", says(request_id=bytes(16))
    yield "a receipt for another request", says(request_sha256=bytes(32))
    yield "a receipt for another response", says(response_sha256=bytes(32))
    yield "a receipt of another model", says(model_name="bert")
    yield "a receipt of another version", says(model_version="2")
    yield "a receipt of another digest", says(model_digest=bytes(32))
    yield "a receipt of another form", says(version=2)


def _refused(asked: Asked) -> Iterator[tuple[str, str, str]]:
    """Envelopes of the first request that a worker refuses, and why."""
    sound = asked.carried

    def changed(edit: Callable[[ModelInferRequest], object]) -> str:
        made = ModelInferRequest.FromString(sound.SerializeToString())
        edit(made)
        return made.SerializeToString(deterministic=True).hex()

    def sealed(edit: Callable[[bytes], bytes]) -> str:
        def put(message: ModelInferRequest) -> None:
            message.raw_input_contents[0] = edit(message.raw_input_contents[0])
            message.inputs[0].shape[0] = len(message.raw_input_contents[0])

        return changed(put)

    def rewritten(edit: Callable[[SealedRequest], object]) -> str:
        def write(raw: bytes) -> bytes:
            message = SealedRequest.FromString(raw)
            edit(message)
            return message.SerializeToString()

        return sealed(write)

    other = ",".join(each.instance for each in reversed(WORKERS))
    yield (
        "another version of sealing",
        "seal.version_unknown",
        changed(lambda m: setattr(m.parameters["cloister-seal"], "string_param", "v2")),
    )
    yield "another model in clear", "seal.broken", changed(lambda m: setattr(m, "model_name", "bert"))
    yield "another version in clear", "seal.broken", changed(lambda m: setattr(m, "model_version", "2"))
    yield (
        "workers in another order",
        "seal.broken",
        changed(lambda m: setattr(m.parameters["cloister-workers"], "string_param", other)),
    )
    yield "cut by a byte", "seal.broken", sealed(lambda raw: raw[:-1])
    yield "a bit of the tag", "seal.broken", sealed(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    yield "a recipient left out", "seal.broken", rewritten(lambda m: m.recipients.pop())
    yield "a recipient twice", "seal.broken", rewritten(lambda m: m.recipients.append(m.recipients[0]))
    yield "another sequence number", "seal.broken", rewritten(lambda m: setattr(m.recipients[0], "sequence", 1))
    yield (
        "another's wrapped keys",
        "seal.broken",
        rewritten(lambda m: setattr(m.recipients[0], "wrapped_keys", m.recipients[1].wrapped_keys)),
    )
    yield (
        "a bit of the opening",
        "seal.broken",
        rewritten(lambda m: setattr(m.recipients[0], "opening", m.recipients[0].opening[:-1] + b"\0")),
    )
    yield "no opening", "session.unknown", rewritten(lambda m: m.recipients[0].ClearField("opening"))


def vectors() -> dict[str, Any]:
    """Return what the file is to hold."""
    asking = Asking(json.loads(PATH.read_text())["openings"] if PATH.exists() else {})
    asked, shown = [], []
    for number, worker in enumerate((world.XWING, world.XWING, world.X25519)):
        each = asking.ask(number)
        opened = OpenedResponse(failure=FAILURE) if number == 1 else good(worker, each, number)
        answer = answered(worker, each, opened)
        each.pending.open(bytes.fromhex(answer["sealed_response"]))  # from here on that session needs no opening
        asked.append(each)
        shown.append({"id": each.carried.id, **each.steps, **answer})
    other = ModelInferResponse.FromString(bytes.fromhex(shown[2]["answer"]))
    return {
        "cluster": CLUSTER,
        "now": NOW.isoformat(),
        "not_after_ms": keys.milliseconds(NOT_AFTER),
        "model": {"name": MODEL, "version": VERSION, "digest": MODEL_DIGEST.hex()},
        "workers": [_worker(each) for each in WORKERS],
        "openings": asking.openings,
        "exchanges": shown,
        "broken_answers": [{"name": name, "answer": raw.hex()} for name, raw in _broken(asked[0], other)],
        "refused_requests": [
            {"name": name, "reason": reason, "envelope": raw} for name, reason, raw in _refused(asked[0])
        ],
    }


def _worker(worker: Worker) -> dict[str, str]:
    return {
        "instance": worker.instance,
        "hpke_suite": worker.pair.suite,
        "hpke_seed": worker.seed.hex(),
        "hpke_public": worker.pair.public.hex(),
        "receipt_key": worker.receipt_public.hex(),
        "ear_id": worker.ear_id,
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n")
