"""What a client would do to an image before it asks, compiled into the model: 8-bit in, resized, scaled, turned round.

A request of bytes is a quarter of one of floats, and every client gets the numbers that the owner tested. The order is:
to float32, resize, subtract the mean, divide by the scale, turn the axes. Resizing is bilinear between pixel centres
(`half_pixel`), without smoothing first; dividing is multiplying by the reciprocal, in OpenVINO's hands. What was
compiled in is described in words, for the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import openvino as ov
from openvino.preprocess import PrePostProcessor, ResizeAlgorithm

from cloister.errors import InvalidRequest
from cloister.prepare.files import input_names, port_name

_LAYOUT: Final = re.compile(r"([NCHW]{1,5})(?:(?:->|:)([NCHW]{1,5}))?")
_SIZES: Final = re.compile(r"(\d{1,5}|\?)x(\d{1,5}|\?)(?:(?:->|:)([1-9]\d{0,4})x([1-9]\d{0,4}))?")
_NUMBER: Final = re.compile(r"-?\d{1,9}(\.\d{1,12})?")


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be done to one input.

    Attributes:
        name: Of the input.
        from_u8: Whether it comes as bytes.
        sizes: Height and width that it comes in, -1 for any; None to leave its size alone.
        resized: To what height and width; None for what the model says itself.
        mean: One for all channels, or one for each.
        scale: As `mean`.
        layouts: Of what comes and of what the model takes, such as NHWC and NCHW.
    """

    name: str
    from_u8: bool = False
    sizes: tuple[int, int] | None = None
    resized: tuple[int, int] | None = None
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    layouts: tuple[str, str] | None = None


def steps(
    model: ov.Model,
    *,
    from_u8: Iterable[str] = (),
    resize: Iterable[str] = (),
    mean: Iterable[str] = (),
    scale: Iterable[str] = (),
    layout: Iterable[str] = (),
) -> list[Steps]:
    """Read what an owner wrote: for an input by name, `image=NHWC:NCHW`; without one for the only input there is.

    Args:
        model: Whose inputs they are for.
        from_u8: Names.
        resize: `480x640` or `?x?` to the model's own size, or `480x640:224x224`, height before width.
        mean: Numbers with commas between.
        scale: As `mean`; none may be zero.
        layout: As `NHWC:NCHW`.

    Raises:
        InvalidRequest: It is not written like that, or names no input (`preprocessing.malformed`).
    """
    names = input_names(model)
    wanted: dict[str, dict[str, str]] = {}
    for kind, texts in (("resize", resize), ("mean", mean), ("scale", scale), ("layout", layout)):
        for text in texts:
            head, equals, tail = text.rpartition("=")
            wanted.setdefault(_input_of(head if equals else "", names), {})[kind] = tail
    bytes_in = {_input_of(name, names) for name in from_u8}
    named = [name for name in names if name in wanted or name in bytes_in]
    return [_steps_of(name, wanted.get(name, {}), from_u8=name in bytes_in) for name in named]


def _steps_of(name: str, texts: Mapping[str, str], *, from_u8: bool) -> Steps:
    sizes, resized = _resizing(texts.get("resize"))
    return Steps(
        name,
        from_u8=from_u8,
        sizes=sizes,
        resized=resized,
        mean=_numbers("mean", texts.get("mean")),
        scale=_numbers("scale", texts.get("scale")),
        layouts=_layouts(texts.get("layout")),
    )


def compile_in(model: ov.Model, wanted: Sequence[Steps]) -> tuple[ov.Model, dict[str, str]]:
    """A model that does these steps itself, in place of `model`; and what they are, in words, by input.

    Raises:
        InvalidRequest: They do not fit the model (`preprocessing.unfit`).
    """
    ports = {port_name(port): port for port in model.inputs}
    settled = [_settled(each, ports[each.name]) for each in wanted]
    processor = PrePostProcessor(model)
    for each in settled:
        _add(processor, each)
    try:
        built = processor.build()
    except RuntimeError as error:
        why = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise _unfit(f"OpenVINO cannot compile this preprocessing in: {why[:300]}") from error
    taken = {port_name(port): port for port in built.inputs}
    return built, {each.name: _words(each, taken[each.name]) for each in settled}


def _settled(each: Steps, port: ov.Output) -> Steps:
    """The steps with the size to resize to; what does not fit is said in the owner's words before OpenVINO's own."""
    shape = port.get_partial_shape()
    if port.get_element_type() != ov.Type.f32:
        raise _unfit(f"'{each.name}' is {port.get_element_type().get_type_name()}; preprocessing is for f32 inputs")
    if each.layouts is None:
        if each.sizes is not None or max(len(each.mean), len(each.scale)) > 1:
            raise _unfit(f"say which axes '{each.name}' has, such as --layout NHWC:NCHW: sizes and channels need it")
        return each
    takes = each.layouts[1]
    if shape.rank.is_dynamic or shape.rank.get_length() != len(takes):
        raise _unfit(f"'{each.name}' has the shape {shape}, which is not {takes}")
    if each.sizes is not None:
        if not {"H", "W"} <= set(takes):
            raise _unfit(f"{takes} has no height and width to resize to")
        if each.resized is None and any(shape[takes.index(axis)].is_dynamic for axis in "HW"):
            raise _unfit(f"'{each.name}' takes any size itself; say which to resize to, such as ?x?:224x224")
    channels = shape[takes.index("C")] if "C" in takes else None
    for numbers in (each.mean, each.scale):
        if len(numbers) > 1 and (channels is None or channels.is_dynamic or channels.get_length() != len(numbers)):
            raise _unfit(
                f"'{each.name}' has not {len(numbers)} channels: its shape is {shape}, which is read as {takes}"
            )
    if each.sizes is None or each.resized is not None:
        return each
    height, width = (int(shape[takes.index(axis)].get_length()) for axis in "HW")
    return replace(each, resized=(height, width))


def _add(processor: PrePostProcessor, each: Steps) -> None:
    at = processor.input(each.name)
    tensor, todo = at.tensor(), at.preprocess()
    if each.from_u8:
        tensor.set_element_type(ov.Type.u8)
        todo.convert_element_type(ov.Type.f32)
    if each.layouts is not None:
        tensor.set_layout(ov.Layout(each.layouts[0]))
        at.model().set_layout(ov.Layout(each.layouts[1]))
    if each.sizes is not None:
        if min(each.sizes) < 0:
            tensor.set_spatial_dynamic_shape()
        else:
            tensor.set_spatial_static_shape(*each.sizes)
    if each.resized is not None:
        todo.resize(ResizeAlgorithm.RESIZE_LINEAR, *each.resized)
    if each.mean:
        todo.mean(list(each.mean) if len(each.mean) > 1 else each.mean[0])
    if each.scale:
        todo.scale(list(each.scale) if len(each.scale) > 1 else each.scale[0])
    if each.layouts is not None and each.layouts[0] != each.layouts[1]:
        todo.convert_layout(ov.Layout(each.layouts[1]))


def _words(each: Steps, port: ov.Output) -> str:
    """Such as `from u8 NHWC [?,?,?,3]; to f32; resize linear to 224x224; mean 127.5; scale 255; to NCHW`."""
    comes, takes = each.layouts or ("", "")
    said = [
        " ".join(filter(None, ("from", port.get_element_type().get_type_name(), comes, str(port.get_partial_shape()))))
    ]
    if each.from_u8:
        said.append("to f32")
    if each.resized is not None:
        said.append("resize linear to {}x{}".format(*each.resized))
    said += [
        f"{what} {','.join(f'{number:g}' for number in numbers)}"
        for what, numbers in (("mean", each.mean), ("scale", each.scale))
        if numbers
    ]
    if comes != takes:
        said.append(f"to {takes}")
    return "; ".join(said)


def _input_of(name: str, names: Sequence[str]) -> str:
    if not name and len(names) == 1:
        return names[0]
    if name not in names:
        asked = f"the model has no input '{name[:64]}'" if name else "the model has several inputs; write NAME=..."
        raise _malformed(f"{asked}: it takes {', '.join(names)}")
    return name


def _resizing(text: str | None) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    if text is None:
        return None, None
    parts = _SIZES.fullmatch(text)
    if parts is None or (parts[1] == "?") != (parts[2] == "?") or "0" in parts.groups():
        raise _malformed(f"'{text[:64]}' is no size to resize from, such as 480x640, ?x? or ?x?:224x224")
    sizes = (-1, -1) if parts[1] == "?" else (int(parts[1]), int(parts[2]))
    return sizes, (int(parts[3]), int(parts[4])) if parts[3] else None


def _numbers(what: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    if not all(_NUMBER.fullmatch(part) for part in text.split(",")):
        raise _malformed(f"'{text[:64]}' is no {what}: one number, or one for each channel with commas between")
    found = tuple(float(part) for part in text.split(","))
    if what == "scale" and 0.0 in found:
        raise _malformed("a scale of 0 divides by nothing")
    return found


def _layouts(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    parts = _LAYOUT.fullmatch(text)
    comes, takes = (parts[1], parts[2] or parts[1]) if parts else ("", "")
    if not comes or sorted(comes) != sorted(takes) or len(set(comes)) != len(comes):
        raise _malformed(f"'{text[:64]}' is no layout, such as NHWC:NCHW: what comes, and what the model takes")
    return comes, takes


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(why, reason="preprocessing.malformed")


def _unfit(why: str) -> InvalidRequest:
    return InvalidRequest(why, reason="preprocessing.unfit")
