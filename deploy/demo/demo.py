"""A sealed model through a whole mesh on this machine, on real data: `make demo`.

It uses what every user has, the `cloister` command and the Python SDK, so it doubles as the longest example of both.

    python deploy/demo/demo.py              tell the whole story, then stop everything
    python deploy/demo/demo.py --enclaves   the same with verifier, provisioner, workers and Redis under Gramine
    python deploy/demo/demo.py --stay-up    prepare the same mesh in .cloister, and keep it up until Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import train
from enclaves import build_enclaves, folder_of, measured
from jobs import leave_jobs
from rich.text import Text
from stage import (
    BIN,
    WORKERS,
    Failed,
    cloister,
    console,
    each_worker,
    record,
    running,
    serving,
    short,
    step,
    title,
    wait_for,
)
from taking_back import take_back_and_give_again

from cloister import Client
from cloister.client import Answer, save_receipt

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = "demo.cloister.internal"
DEMO_FOLDER, ENCLAVES_FOLDER, UP_FOLDER = Path(".demo"), Path(".demo-enclaves"), Path(".cloister")
MADE_BY = "made-by-the-demo.json"


def main() -> int:
    """Run one of the two; returns the exit code."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--stay-up", action="store_true", help="prepare the mesh in .cloister and keep it up")
    arguments.add_argument("--enclaves", action="store_true", help="build enclaves, and run them by gramine-direct")
    chosen = arguments.parse_args()
    os.chdir(REPOSITORY)
    try:
        if chosen.stay_up:
            stay_up(UP_FOLDER)
        else:
            tell(ENCLAVES_FOLDER if chosen.enclaves else DEMO_FOLDER, in_enclaves=chosen.enclaves)
    except Failed as error:
        console.print(Text.assemble(("failed: ", "bold red"), str(error)))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def tell(folder: Path, *, in_enclaves: bool) -> None:
    """The whole story, from nothing to nothing."""
    start_over(folder)
    mesh = folder / "mesh"
    say_what_is_simulated()
    if in_enclaves:
        say_what_gramine_does()
    title("The data owner's records, the model owner's model")
    seen, held_out = train.split()
    layers = train.train(seen)
    files = train.save(train.build(layers), folder / "model")
    step("model owner", f"trained a network on {len(seen.labels)} patients; {len(held_out.labels)} it never saw")
    title("A mesh")
    found(mesh)
    if in_enclaves:
        build_enclaves(mesh)
    with running(mesh, enclaves=folder_of(mesh) if in_enclaves else None):
        show_evidence(mesh)
        pin_verifier(mesh)
        title("The model owner decides who may have the key")
        seal_and_publish(mesh, files, folder / "sealed")
        show_refusals(mesh)
        allow(mesh)
        show_releases(mesh)
        title("The data owner asks")
        answers = asyncio.run(ask(mesh, held_out.measurements))
        show_predictions(answers, held_out.labels)
        show_what_the_gateway_saw(answers[0])
        title("The data owner leaves work behind")
        leave_jobs(mesh, train.MODEL_NAME, held_out.measurements, answers, in_enclaves=in_enclaves)
        title("The model owner takes it back, and gives it again")
        take_back_and_give_again(mesh, train.MODEL_NAME, folder)
        title("What is left to check afterwards")
        check_receipt(mesh, answers[0], folder / "answer.receipt")
        show_record(mesh)
        title("The end")
    step("everything", "has stopped; nothing was left running")
    console.print(
        f"\nGo on: 'make up' keeps such a mesh up, ready to be asked. What this run made is in {folder}; "
        "README.md explains each step.\n"
    )


def say_what_is_simulated() -> None:
    """Said once, in plain words."""
    console.print(
        Text(
            "The two workers here are SIMULATED. Their quotes have Intel's format, but a program on this machine signs "
            "them under a root of its own. All else is real: processes, mutual TLS, appraisal, sealing, receipts, "
            "the model and the patients' measurements. Against whoever owns this machine that is worth nothing: they "
            "hold the simulator's keys and could read model and data. Inside SGX they could not.",
            style="yellow",
        )
    )


def say_what_gramine_does() -> None:
    """Said once too."""
    console.print(
        Text(
            "They run under gramine-direct: Gramine opens no file but those that were measured, and keeps the state "
            "encrypted, but there is no SGX around it, so the memory is open to whoever owns this machine.",
            style="yellow",
        )
    )


def found(mesh: Path) -> None:
    """Keys, identities, settings, trust bundle."""
    cloister("init", mesh, "--cluster", CLUSTER, "--model", train.MODEL_NAME, "--simulator")
    step("operator", f"founded {CLUSTER}: a root CA, one identity each, and a trust bundle for clients")


def show_evidence(mesh: Path) -> None:
    """What each worker proved to the verifier."""
    listed = record(mesh, "appraisals", "evidence.accepted")
    for line in {line["instance"]: line for line in listed}.values():
        step(
            f"worker {short(line['instance'])}",
            f"proved to the verifier that it runs {short(line['mrenclave'])}, TCB {line['tcb_status']}, under the "
            f"{line['anchor']} root; got a certificate for an hour",
        )


def pin_verifier(mesh: Path) -> None:
    """The verifier is asked for evidence of its own; from then on the trust bundle rests on that."""
    addresses = tomllib.loads((mesh / "mesh.toml").read_text())["addresses"]
    mrenclave = measured(mesh, "verifier")
    simulated = ("--anchor-root", mesh / "simulator" / "root.der", "--out", mesh / "trust.json")
    cloister("trust", "pin", addresses["verifier_https"], "--mrenclave", mrenclave, *simulated)
    step("data owner", f"had the verifier prove that it runs {short(mrenclave)}, and pinned its CA and keys")


def seal_and_publish(mesh: Path, files: tuple[Path, Path], sealed: Path) -> None:
    """Encrypt, sign, register."""
    cloister("model", "seal", *files, "--name", train.MODEL_NAME, "--version", "1", "--out", sealed, "--mesh", mesh)
    manifest = json.loads((sealed / "manifest.json").read_text())
    step("model owner", f"sealed {train.MODEL_NAME}@1 ({manifest['size_bytes']} bytes, {short(manifest['digest'])})")
    cloister("model", "publish", sealed, "--mesh", mesh)
    step("model owner", "gave the provisioner the key and the signed manifest; workers have only ciphertext")


def show_refusals(mesh: Path) -> None:
    """Believed is not entitled: no policy, no key. The worker hears that it was refused; the record says why."""

    def refused() -> list[dict[str, Any]]:
        lines = record(mesh, "releases")
        published = max(line["sequence"] for line in lines if line["event"] == "model.registered")
        return each_worker([line for line in lines if line["event"] == "key.refused" and line["sequence"] > published])

    for line in wait_for(refused, "the workers' refusals"):
        who = f"worker {short(line['instance'])}"
        step(who, f"asked for the key and only heard that it was refused; the record says why: {line['reason']}")


def allow(mesh: Path) -> None:
    """The owner names the measurement; it comes from the code itself, not from the machine that runs it."""
    mrenclave = measured(mesh, "worker")
    options = ("--mrenclave", mrenclave, "--allow-simulated", "--mesh", mesh)
    cloister("model", "allow", train.MODEL_NAME, *options)
    step("model owner", f"measured the worker's code as {short(mrenclave)} and allows exactly that")


def show_releases(mesh: Path) -> None:
    """The keys go out, sealed to each attested worker."""
    for line in wait_for(lambda: each_worker(record(mesh, "releases", "key.released")), "the release of the keys"):
        step(
            f"worker {short(line['instance'])}",
            f"proved to the provisioner that it is {short(line['mrenclave'])}; got the key, sealed to it alone",
        )
    wait_for(lambda: serving(mesh, f"{train.MODEL_NAME}@1"), "both workers to serve the model")


async def ask(mesh: Path, measurements: np.ndarray[Any, Any]) -> list[Answer]:
    """Verify the workers as a client does, then ask about one patient after another."""
    status = json.loads(cloister("status", mesh, "--json"))
    gateway = next(each["address"] for each in status["services"] if each["service"] == "gateway")
    identity = mesh / "identities" / "client" / "main"
    async with Client.connect(gateway, trust=mesh / "trust.json", identity=identity) as client:
        judged = await client.workers(train.MODEL_NAME)
        for worker in judged.believed:
            result = worker.result
            step(
                "data owner",
                f"judged worker {short(worker.instance)} itself: two verifiers agree on its quote; it runs "
                f"{short(result.mrenclave)} as the trust bundle wants, and serves a model that its owner "
                f"{short(worker.owner.hex())} signed",
            )
        if len(judged.believed) != WORKERS:
            raise Failed(f"only {len(judged.believed)} of {WORKERS} workers were believed")
        sending = time.monotonic()
        answers = await client.infer_many(train.MODEL_NAME, [{"measurements": row[None, :]} for row in measurements])
        took_s = time.monotonic() - sending
    by_worker = {short(answer.worker.instance) for answer in answers if answer.worker is not None}
    step(
        "data owner",
        f"sent {len(answers)} patients' records, each sealed to the workers' keys; answers from "
        f"{' and '.join(sorted(by_worker))} in {took_s:.1f} s",
    )
    return answers


def show_predictions(answers: list[Answer], labels: np.ndarray[Any, Any]) -> None:
    """Against what the pathologists found."""
    probabilities = np.array([answer.outputs["benign_probability"][0, 0] for answer in answers])
    predicted = (probabilities > 0.5).astype(int)
    right = int((predicted == labels).sum())
    step("data owner", f"{right} of {len(labels)} agree with the pathologist: accuracy {right / len(labels):.1%}")
    wrong = np.flatnonzero(predicted != labels)[:1]
    for number in [*range(4), *wrong]:
        console.print(
            f"           patient {number:3}   benign with {probabilities[number]:6.1%}   "
            f"predicted {train.LABELS[predicted[number]]:9}   was {train.LABELS[labels[number]]}"
        )


def show_what_the_gateway_saw(answer: Answer) -> None:
    """The envelope is an ordinary OIP request, and says nothing of the patient."""
    envelope = answer.envelope
    sealed = envelope.raw_input_contents[0]
    workers = envelope.parameters["cloister-workers"].string_param
    step("gateway", "saw of the first request this, and no more:")
    for name, value in (
        ("model", f"{envelope.model_name}@{envelope.model_version}"),
        ("workers that can open it", ", ".join(short(each) for each in workers.split(","))),
        ("tensor", f"{envelope.inputs[0].name} {envelope.inputs[0].datatype} {list(envelope.inputs[0].shape)}"),
        ("content", f"... {sealed[-96:-64].hex()}"),
        ("", f"    {sealed[-64:-32].hex()}"),
        ("", f"    {sealed[-32:].hex()}"),
    ):
        console.print(f"           {name:26}{value}")


def check_receipt(mesh: Path, answer: Answer, path: Path) -> None:
    """Anybody with the trust bundle can check it, offline; and nobody can change it."""
    if answer.receipt is None:
        raise Failed("a sealed answer came without a receipt")
    save_receipt(answer.receipt, path)
    found = json.loads(cloister("receipt", "verify", path, "--mesh", mesh, "--json"))
    step(
        f"worker {short(found['instance'])}",
        f"signed a receipt: {found['model_name']}@{found['model_version']} {short(found['model_digest'])} in "
        f"{short(found['mrenclave'])} gave this answer to this request at {found['issued_at'][:19]}",
    )
    step("auditor", f"checked it offline: cloister receipt verify {path} --mesh {mesh}")
    forged = path.with_suffix(".forged")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    forged.write_bytes(content)
    command = [BIN / "cloister", "receipt", "verify", forged, "--mesh", mesh]
    refused = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  # our own command
    if refused.returncode == 0:
        raise Failed("a forged receipt was believed")
    step("auditor", f"changed one bit of it, and it holds no more (exit code {refused.returncode})")


def show_record(mesh: Path) -> None:
    """Every decision about the key, and why."""
    proven = cloister("audit", "verify", "--mesh", mesh).strip()
    step("auditor", f"proved that the record of keys is whole and countersigned: {proven}")
    lines = record(mesh, "releases")
    step("auditor", f"read the provisioner's record: {len(lines)} lines, appended and never changed; in short:")
    told: set[tuple[str, ...]] = set()
    for line in lines:
        about = (line["event"], line.get("instance", ""), line.get("reason", ""))
        if about in told:
            continue
        told.add(about)
        who = f"worker {short(about[1])}" if about[1] else ""
        console.print(f"           {line['sequence']:4}  {line['event']:18}{who:18}{line.get('reason', '')}")


def start_over(folder: Path) -> None:
    """Remove what an earlier run left; only what the demo made itself."""
    if folder.exists():
        if not (folder / MADE_BY).exists():
            raise Failed(f"{folder} was not made by the demo and is left alone: move it away")
        if (folder / "mesh" / "mesh.toml").exists():
            cloister("down", folder / "mesh")
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / MADE_BY).write_text("{}\n")


def stay_up(mesh: Path) -> None:
    """Prepare what is not yet there, then become `cloister up`."""
    mrenclave = measured(mesh, "worker")
    mark = mesh / MADE_BY
    if mesh.exists() and not mark.exists():
        raise Failed(f"{mesh} was not made by the demo and is left alone: start it with 'cloister up {mesh}'")
    if not mesh.exists():
        prepare(mesh, mrenclave)
    elif json.loads(mark.read_text())["mrenclave"] != mrenclave:
        console.print("the worker's code has changed since; its new measurement is allowed")
        with running(mesh, workers=0):
            allow(mesh)
        cloister("trust", "accept", "--mrenclave", mrenclave, "--mesh", mesh)
        write_mark(mesh, mrenclave)
    example = f".venv/bin/cloister infer {train.MODEL_NAME} --input {mesh / 'record.json'}"
    console.print(f"one patient to ask about, once it is up: {example}")
    sys.stdout.flush()
    os.execv(BIN / "cloister", ["cloister", "up", str(mesh), "--simulator", "--workers", str(WORKERS)])  # noqa: S606


def prepare(mesh: Path, mrenclave: str) -> None:
    """A mesh with the demo's model, sealed, published and allowed."""
    say_what_is_simulated()
    found(mesh)
    seen, held_out = train.split()
    files = train.save(train.build(train.train(seen)), mesh / "example" / "model")
    first = {"measurements": held_out.measurements[:1].tolist()}
    (mesh / "record.json").write_text(json.dumps(first) + "\n")
    with running(mesh, workers=0):  # no key leaves before the restart, so none has to wait after it
        seal_and_publish(mesh, files, mesh / "example" / "sealed")
        allow(mesh)
    write_mark(mesh, mrenclave)


def write_mark(mesh: Path, mrenclave: str) -> None:
    """Remember that this folder is ours, and what its policy allows."""
    (mesh / MADE_BY).write_text(json.dumps({"mrenclave": mrenclave}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
