"""Make the PaddlePaddle models of this folder, and record what Paddle itself answers.

    python -m venv /tmp/paddle && /tmp/paddle/bin/pip install paddlepaddle==3.3.1 setuptools
    FLAGS_enable_pir_api=0 /tmp/paddle/bin/python tests/vectors/models/make_paddle.py

The flag asks for `.pdmodel`, the form that OpenVINO reads; the newer `.json` is refused. Folders are as those of
`make_tensorflow.py`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
from paddle import nn, static

HERE = Path(__file__).parent
Feeds = dict[str, tuple[list[int], str]]


def main() -> None:
    paddle.enable_static()
    rng = np.random.default_rng(7)
    image = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    a, b = (rng.standard_normal((2, 3)).astype(np.float32) for _ in range(2))
    make("paddle_cnn", {"image": ([-1, 3, 8, 8], "float32")}, convolutional, {"image": image})
    make("paddle_two", {"a": ([-1, 3], "float32"), "b": ([-1, 3], "float32")}, two, {"a": a, "b": b})
    make("paddle_ids", {"ids": ([-1, 3], "int64")}, bag, {"ids": np.array([[0, 1, 9], [5, 5, 3]], np.int64)})


def convolutional(image: paddle.Tensor) -> list[paddle.Tensor]:
    value = nn.functional.relu(nn.Conv2D(3, 4, 3, padding=1)(image))
    value = nn.BatchNorm2D(4)(nn.functional.max_pool2d(value, 2))
    value = nn.functional.adaptive_avg_pool2d(value, 1).flatten(1)
    return [nn.functional.softmax(nn.Linear(4, 3)(value))]


def two(a: paddle.Tensor, b: paddle.Tensor) -> list[paddle.Tensor]:
    return [paddle.mean(paddle.add(a, b), axis=1), paddle.subtract(a, b)]


def bag(ids: paddle.Tensor) -> list[paddle.Tensor]:
    return [paddle.mean(nn.Embedding(10, 4)(ids), axis=1)]


def make(name: str, feeds: Feeds, build: Callable, inputs: dict[str, np.ndarray]) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    program, start = static.Program(), static.Program()
    program.random_seed = start.random_seed = 7
    with paddle.utils.unique_name.guard(), static.program_guard(program, start):
        fed = [static.data(feed, shape, kind) for feed, (shape, kind) in feeds.items()]
        fetched = build(*fed)
        run = static.Executor(paddle.CPUPlace())
        run.run(start)
        tested = program.clone(for_test=True)
        answers = run.run(tested, feed=inputs, fetch_list=fetched)
        static.save_inference_model(str(folder / "model"), fed, fetched, run, program=program)
    forget_where(folder / "model.pdmodel")
    loaded = static.load_inference_model(str(folder / "model"), run)
    names = [target.name for target in loaded[2]]
    arrays = {f"in:{key}": value for key, value in inputs.items()}
    arrays |= {f"out:{key}": value for key, value in zip(names, answers, strict=True)}
    np.savez_compressed(folder / "answers.npz", **arrays)


def forget_where(path: Path) -> None:
    """Take out of a program which lines of which files on this machine made it."""
    program = static.deserialize_program(path.read_bytes())
    for operation in program.global_block().ops:
        operation.desc.remove_attr("op_callstack")
    path.write_bytes(program.desc.serialize_to_string())


if __name__ == "__main__":
    main()
