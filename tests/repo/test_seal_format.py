"""docs/seal-format.md against the code: constants, fields, labels, members, reasons, and the bytes of its example."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from cloister import dsse
from cloister.api.oip.inference_pb2 import ModelInferRequest
from cloister.api.v1 import evidence_pb2, gateway_pb2, model_pb2, provisioner_pb2, seal_pb2, worker_pb2
from cloister.client import bundle as trust_bundle
from cloister.client.trust import MESH_AUDIENCE, MESH_LIFE
from cloister.ear import LEEWAY, MAX_TOKEN_BYTES, PROFILE, TOKEN_TYPE
from cloister.ear import result as ear_result
from cloister.ear.code import SGX, TDX, code_members
from cloister.evidence import binding
from cloister.gateway.rest.infer_answer import infer_answer
from cloister.gateway.rest.infer_request import read_infer
from cloister.kit import key_set, signer_set
from cloister.seal import (
    chunk_envelope,
    conversation,
    envelope,
    framing,
    hpke,
    job_epoch,
    job_keys,
    job_worker,
    keys,
    padding,
    receipt,
    release_policy,
    session_keys,
    session_table,
    session_worker,
)
from cloister.seal.session import WorkerSessions
from cloister.worker.settings import MAX_MESSAGE_BYTES
from vectors import make_exchange_v1

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "seal-format.md").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "services" / "cloister").rglob("*.py"))
MESSAGES = {
    **dict.fromkeys(("RequestHeader", "Recipient", "SealedRequest", "SealedResponse", "OpenedResponse"), seal_pb2),
    **dict.fromkeys(("ConversationTerms", "ConversationClose", "ConversationEnd"), seal_pb2),
    **dict.fromkeys(("Receipt", "ReceiptBody", "ReceiptBundle"), seal_pb2),
    **dict.fromkeys(("SealedJob", "JobHeader", "SealedJobResult", "OpenedJobResult"), seal_pb2),
    **dict.fromkeys(("ListWorkersRequest", "ListWorkersResponse", "ServingWorker"), gateway_pb2),
    **dict.fromkeys(("Evidence", "EvidenceBundle"), evidence_pb2),
    **dict.fromkeys(("SignedManifest", "SignedJobEpoch", "JobEpoch", "SignedReleasePolicy"), model_pb2),
    **dict.fromkeys(("ReleasePolicy", "SignerRule", "Platforms"), provisioner_pb2),
    "Failure": worker_pb2,
}
CONSTANTS = {
    "version of sealing, newest": {session_keys.SEAL_VERSION},
    "version of a header, of a receipt body": {session_keys.VERSION, receipt.VERSION},
    "version of a header that asks for padding, or opens a conversation": {session_keys.PADDED_VERSION},
    "padding, in a header": {session_keys.PADDED},
    "bytes of a key id": {hpke.KEY_ID_BYTES},
    "least bytes of what is padded": {padding.LEAST_BYTES},
    "largest step of padding, in bytes": {padding.LARGEST_STEP_BYTES},
    "recipients of a request": {session_keys.MAX_RECIPIENTS},
    "fields of a sealed message": {framing._MAX_FIELDS},
    "bytes of a head": {framing._MAX_HEAD_BYTES},
    "bytes of a varint": {framing._MAX_VARINT_BYTES},
    "bytes of a header": {session_worker.MAX_HEADER_BYTES, job_worker.MAX_HEADER_BYTES},
    "bytes of a session id, of a request id": {session_keys.SESSION_ID_BYTES, session_keys.REQUEST_ID_BYTES},
    "bytes of a tag": {session_keys.TAG_BYTES, hpke.TAG_BYTES},
    "bytes of wrapped keys": {session_keys.WRAPPED_BYTES},
    "replay window": {session_table.WINDOW},
    "sessions of a worker": {WorkerSessions.__init__.__defaults__[0]},  # type: ignore[index]
    "milliseconds that a request may be valid": {session_keys.MAX_LIFE_MS},
    "bytes of a message": {MAX_MESSAGE_BYTES},
    "leaves of a receipt's tree": {receipt._MAX_TREE},
    "hashes of a path": {receipt._MAX_TREE.bit_length()},
    "bytes of a token": {MAX_TOKEN_BYTES},
    "seconds of leeway for a token's times": {LEEWAY.total_seconds()},
    "seconds that a token may be valid": {MESH_LIFE.total_seconds()},
    "bytes of a key set, of a trust bundle": {key_set.MAX_KEY_SET_BYTES, trust_bundle.MAX_BYTES},
    "keys of a key set": {key_set.MAX_KEYS},
    "signatures of a key set": {dsse.MAX_SIGNATURES},
    "bytes of claims": {binding.MAX_CLAIMS_BYTES},
    "requests of a conversation": {conversation.MOST_REQUESTS},
    "bytes that follow a chunk's ciphertext": {conversation.TRAILER_BYTES},
    "version of a job's header": {job_keys.VERSION},
    "bytes of a job id": {job_keys.JOB_ID_BYTES},
    "bytes of a salt": {job_keys.SALT_BYTES},
    "bytes of a statement about a job key": {job_epoch.MAX_STATEMENT_BYTES},
    "bytes of a signer set": {signer_set.MAX_SET_BYTES},
    "bytes of a model's signer sets": {release_policy.MAX_SIGNER_SETS_BYTES},
    "keys of a signer set": {signer_set.MAX_KEYS},
    "signer sets of a model": {signer_set.MAX_SETS},
}


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def section(begin: str, end: str = r"\n## ") -> str:
    """What follows a heading."""
    found = re.search(rf"^{begin}(.*?)(?:{end}|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, begin
    return found[1]


def names(text: str) -> set[str]:
    """All that stands between backquotes in a text."""
    return set(re.findall(r"`([^`]+)`", text))


def test_the_constants_are_those_of_the_code() -> None:
    stated = dict(rows(section("## 11 Limits and constants"))[1:])
    assert stated.keys() == CONSTANTS.keys()
    assert {name: {float(value)} for name, value in stated.items()} == CONSTANTS


TYPES = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def type_of(field: Any) -> str:
    """As the page writes it."""
    kind = field.message_type.name if field.message_type else TYPES[field.type]
    return f"{kind}, repeated" if field.is_repeated else kind


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_fields_that_the_page_gives_it(name: str) -> None:
    text = section(rf"\*\*{name}\*\*", r"\n\n(?!\|)")
    stated = [cells[:3] for cells in rows(text)[1:]]
    fields = sorted(getattr(MESSAGES[name], name).DESCRIPTOR.fields, key=lambda field: field.number)
    assert stated == [[str(field.number), field.name, type_of(field)] for field in fields]


@pytest.mark.parametrize(
    ("suite", "kem"), [(hpke.XWING, "0x647a"), (hpke.X25519, "0x0020")]
)  # the ids of `cryptography`'s suites are not to be had; the vectors of the Node.js client hold them
def test_suites(suite: str, kem: str) -> None:
    (found,) = [cells for cells in rows(section("### 5.2 The opening", r"\n### ")) if cells[0] == f"`{suite}`"]
    opening = hpke.ENC_BYTES[suite] + keys.KEY_BYTES + hpke.TAG_BYTES
    sizes = [f"{size} bytes" for size in (hpke.PUBLIC_BYTES[suite], hpke.ENC_BYTES[suite], opening)]
    assert found == [f"`{suite}`", kem, "0x0001 HKDF-SHA256", "0x0002 AES-256-GCM", *sizes]


@pytest.mark.parametrize("label", sorted(set(re.findall(r'"(cloister [a-z ]+ v1)"', PAGE))))
def test_a_label_is_one_of_the_code(label: str) -> None:
    assert f'"{label}"' in SOURCES


def test_no_label_of_what_a_client_meets_is_missing() -> None:
    modules = ("hpke", "session_keys", "conversation", "receipt", "manifest", "job_epoch", "job_keys")
    text = "".join((ROOT / "services" / "cloister" / "seal" / f"{name}.py").read_text() for name in modules)
    text += (ROOT / "services" / "cloister" / "td_measurement.py").read_text()
    assert set(re.findall(r'"(cloister [a-z ]+ v1)"', text)) == set(
        re.findall(r'"(cloister (?!trust)[a-z ]+ v1)"', PAGE)
    )


def test_the_members_of_an_attestation_result() -> None:
    claims = section("### 4.3 The claims", r"\n### ")
    outer, _, own = claims.partition("| member of `cloister`")
    stated = [{name for cells in rows(text) for name in names(cells[0])} for text in (outer, own)]
    code = {member for tee in (SGX, TDX) for member in code_members(tee)}
    assert stated == [ear_result._MEMBERS, ear_result._OWN_MEMBERS | code]
    assert {PROFILE, TOKEN_TYPE, MESH_AUDIENCE, key_set.PAYLOAD_TYPE} <= names(section("## 4 Whom to believe"))


def test_the_members_of_claims_and_of_a_trust_bundle() -> None:
    stated = {name for cells in rows(section("### 4.6 The quote", r"\n## "))[1:] for name in names(cells[0])}
    assert stated == binding._COMMON | binding._SEALING | {binding._SEAL}
    members = {name for cells in rows(section("## 2 What you are given"))[1:] for name in names(cells[0])}
    assert members == trust_bundle._REQUIRED | trust_bundle._OPTIONAL
    assert trust_bundle.FORMAT in names(section("## 2 What you are given"))


def test_the_envelope() -> None:
    text = section("## 6 A sealed request")
    stated = names(text) | set(re.findall(r'"([^"]+)"', text))
    assert {envelope.SEAL_PARAMETER, envelope.WORKERS_PARAMETER} <= stated
    assert {envelope.SEAL_VERSION, envelope.TENSOR, envelope.DATATYPE} <= stated
    assert chunk_envelope.TENSOR in names(section("## 15 Conversations"))
    assert envelope.JOB_VERSION in names(section("## 17 Sealed jobs"))
    tags = [bytes([number << 3 | 2]).hex() for number in (job_keys.JOB_CIPHERTEXT, job_keys.ANSWER_CIPHERTEXT)]
    assert set(tags) <= names(section("## 17 Sealed jobs"))


@pytest.mark.parametrize("reason", sorted(names("".join(cells[0] for cells in rows(section("## 10 Errors"))[1:]))))
def test_a_reason_is_one_of_the_code(reason: str) -> None:
    assert f'"{reason}"' in SOURCES


def examples() -> list[Any]:
    """Each value of the example: its path in the vectors, and the groups of `SHOWN`."""
    parts = re.split(r"<!-- vector (\S+) -->", section("## 12 One request, in bytes"))
    found = []
    for path, text in zip(parts[1::2], parts[2::2], strict=True):
        for block in re.findall(r"^```\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE):
            found += [(path, SHOWN.fullmatch(line)) for line in re.sub(r"\n +", "", block).splitlines()]
    return found


SHOWN = re.compile(r"(\w+) +([0-9a-f]+)(?:…([0-9a-f]+) \((\d+) bytes\))?")


def test_the_example_is_the_vectors() -> None:
    vectors: Any = json.loads(make_exchange_v1.PATH.read_text())
    assert len(examples()) > 20
    for path, shown in examples():
        held = vectors
        for name in path.split("."):
            held = held[int(name)] if isinstance(held, list) else held[name]
        name, first, last, length = shown.groups()
        value = held[name]
        assert value == first or (value.startswith(first) and value.endswith(last) and len(value) == 2 * int(length))


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_over_https_the_envelope_is_the_same() -> None:
    """What the page sends by curl, read by the gateway; and the answer, written by it."""
    (head,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    exchange: Any = json.loads(make_exchange_v1.PATH.read_text())["exchanges"][0]
    body = head.encode() + bytes.fromhex(exchange["sealed_request"])
    raw, wanted = read_infer(body, len(head), "resnet", "1")
    assert ModelInferRequest.FromString(raw) == ModelInferRequest.FromString(bytes.fromhex(exchange["envelope"]))
    answer = infer_answer(bytes.fromhex(exchange["answer"]), wanted)
    length = int(answer.headers["inference-header-content-length"])
    sealed = bytes.fromhex(exchange["sealed_response"])
    said = {"name": envelope.TENSOR, "datatype": envelope.DATATYPE, "shape": [len(sealed)]}
    assert bytes(answer.body)[length:] == sealed
    assert json.loads(bytes(answer.body)[:length]) == {
        "model_name": "resnet",
        "model_version": "1",
        "id": exchange["id"],
        "parameters": {envelope.SEAL_PARAMETER: envelope.SEAL_VERSION},
        "outputs": [said | {"parameters": {"binary_data_size": len(sealed)}}],
    }
