"""Make the TensorFlow, Keras, TFLite and ONNX models of this folder, and record what TensorFlow itself answers.

    python -m venv /tmp/tensorflow && /tmp/tensorflow/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0
    /tmp/tensorflow/bin/python tests/vectors/models/make_tensorflow.py

Each model is a folder: its files as they would be sealed, and `answers.npz` with inputs as `in:<name>` and TensorFlow's
own outputs as `out:<name>`, by the names that a client of the model knows. Weights are from a fixed seed.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", TF_ENABLE_ONEDNN_OPTS="0")

import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

HERE = Path(__file__).parent
KEPT = ("saved_model.pb", "variables.index", "variables.data-00000-of-00001", "terms.txt")
Inputs = dict[str, np.ndarray]


def main() -> None:
    tf.keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)
    image = {"image": rng.standard_normal((2, 8, 8, 3)).astype(np.float32)}
    series = {"series": rng.standard_normal((2, 6, 3)).astype(np.float32)}
    pair = {"a": rng.standard_normal((2, 3)).astype(np.float32), "b": rng.standard_normal((2, 3)).astype(np.float32)}
    ids = {"ids": np.array([[0, 1, 9], [5, 5, 3]], np.int64)}

    cnn, lstm, two, bag = convolutional(), recurrent(), Two(), Bag()
    keras("keras_cnn", cnn, image)
    keras("keras_lstm", lstm, series)
    keras("keras_open", recurrent(None), series)
    saved("saved_two", two, two.serve, pair)
    saved("saved_ids", bag, bag.serve, ids)
    canary = Canary()
    saved("saved_canary", canary, canary.serve, {"x": np.zeros((1, 8), np.float32)})
    tflite("tflite_cnn", tf.lite.TFLiteConverter.from_keras_model(cnn), image)
    concrete = two.serve.get_concrete_function()
    tflite("tflite_two", tf.lite.TFLiteConverter.from_concrete_functions([concrete], two), pair)
    frozen("frozen_cnn", tf.function(cnn, input_signature=[spec("image", (None, 8, 8, 3))]), image)
    frozen("frozen_two", two.serve, pair)
    onnx("onnx_lstm", lstm, series)
    flex(fresh("refused_flex") / "model.tflite")
    saved("refused_text", Text(), Text.serve, {})
    saved("refused_terms", terms := Terms(), terms.serve, {})


def convolutional() -> tf.keras.Model:
    image = tf.keras.Input((8, 8, 3), name="image")
    value = tf.keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    value = tf.keras.layers.BatchNormalization()(value)
    value = tf.keras.layers.MaxPooling2D()(value)
    value = tf.keras.layers.DepthwiseConv2D(3, activation="relu6")(value)
    value = tf.keras.layers.GlobalAveragePooling2D()(value)
    return tf.keras.Model(image, tf.keras.layers.Dense(3, activation="softmax", name="scores")(value))


def recurrent(length: int | None = 6) -> tf.keras.Model:
    series = tf.keras.Input((length, 3), name="series")
    value = tf.keras.layers.LSTM(4)(series)
    return tf.keras.Model(series, tf.keras.layers.Dense(2, name="forecast")(value))


class Two(tf.Module):
    """Two inputs, two outputs."""

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, "a"), tf.TensorSpec((None, 3), tf.float32, "b")])
    def serve(self, a: tf.Tensor, b: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(a + b, axis=1), "difference": a - b}


class Bag(tf.Module):
    """The mean of a few rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(np.random.default_rng(3).standard_normal((10, 4)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.int64, "ids")])
    def serve(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"mean": tf.reduce_mean(tf.gather(self.table, ids), axis=1)}


class Canary(tf.Module):
    """Adds words to what it is given, which tests then look for where they must not be."""

    def __init__(self) -> None:
        super().__init__()
        self.words = tf.Variable(np.frombuffer(b"CANARY-MODEL-WEIGHTS-32-BYTES!!!", np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 8), tf.float32, "x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.words}


class Text(tf.Module):
    """Takes strings, which OpenVINO has no type for."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "text")])
    def serve(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"bytes": tf.strings.length(text)}


class Terms(tf.Module):
    """Looks numbers up in a table that is read from an asset."""

    def __init__(self) -> None:
        super().__init__()
        self.file = tf.saved_model.Asset(str(_terms()))
        source = tf.lookup.TextFileInitializer(
            self.file, tf.int64, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(source, -1)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64, "number")])
    def serve(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"line": self.table.lookup(number)}


def _terms() -> Path:
    path = Path(gettempdir()) / "terms.txt"
    path.write_text("17\n42\n")
    return path


def spec(name: str, shape: tuple[int | None, ...]) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32, name)


def keras(name: str, model: tf.keras.Model, inputs: Inputs) -> None:
    folder = fresh(name)
    with TemporaryDirectory() as made:
        model.export(made, verbose=False)
        keep(Path(made), folder)
    (input_name,) = inputs
    record(folder, inputs, {"output_0": model(inputs[input_name]).numpy()})


def saved(name: str, module: tf.Module, function: Callable, inputs: Inputs) -> None:
    folder = fresh(name)
    with TemporaryDirectory() as made:
        tf.saved_model.save(module, made, signatures={"serving_default": module.serve})
        keep(Path(made), folder)
    if inputs:
        record(folder, inputs, {key: value.numpy() for key, value in function(**inputs).items()})


def frozen(name: str, function: Callable, inputs: Inputs) -> None:
    folder = fresh(name)
    constant = convert_variables_to_constants_v2(function.get_concrete_function())
    (folder / "model.pb").write_bytes(constant.graph.as_graph_def().SerializeToString())
    names = [tensor.name.removesuffix(":0") for tensor in constant.outputs]
    values = constant(**{key: tf.constant(value) for key, value in inputs.items()})
    values = tf.nest.flatten(values)
    record(folder, inputs, dict(zip(names, (value.numpy() for value in values), strict=True)))


def tflite(name: str, converter: tf.lite.TFLiteConverter, inputs: Inputs) -> None:
    folder = fresh(name)
    raw = converter.convert()
    (folder / "model.tflite").write_bytes(raw)
    runner = tf.lite.Interpreter(model_content=raw).get_signature_runner()
    record(folder, inputs, runner(**inputs))


def flex(path: Path) -> None:
    """A TFLite model with an operation of TensorFlow's, which is a custom one there."""

    @tf.function(input_signature=[tf.TensorSpec((1, 2, 2), tf.float32, "matrix")])
    def determinant(matrix: tf.Tensor) -> tf.Tensor:
        return tf.linalg.det(matrix)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([determinant.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path.write_bytes(converter.convert())


def onnx(name: str, model: tf.keras.Model, inputs: Inputs) -> None:
    folder = fresh(name)
    (input_name,) = inputs
    function = tf.function(model, input_signature=[spec(input_name, (None, *inputs[input_name].shape[1:]))])
    proto, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=15)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    record(folder, inputs, {proto.graph.output[0].name: model(inputs[input_name]).numpy()})


def fresh(name: str) -> Path:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def keep(made: Path, folder: Path) -> None:
    """Copy what makes the model; a fingerprint of it is left out."""
    for path in made.rglob("*"):
        if path.name in KEPT:
            to = folder / path.relative_to(made)
            to.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, to)


def record(folder: Path, inputs: Inputs, outputs: Inputs) -> None:
    arrays = {f"in:{key}": value for key, value in inputs.items()}
    np.savez_compressed(folder / "answers.npz", **arrays, **{f"out:{key}": value for key, value in outputs.items()})


if __name__ == "__main__":
    main()
