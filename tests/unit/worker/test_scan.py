"""What the worker refuses before OpenVINO's parsers see it (attacks F08)."""

import re

import numpy as np
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import InvalidRequest
from cloister.worker.refusals import ModelRefused
from cloister.worker.safety import make_safe
from cloister.worker.scan import scan_ir, scan_onnx
from fakes import networks
from fakes.refusals import because


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return networks.ir(networks.slow(), tmp_path_factory.mktemp("ir"))


@pytest.fixture(scope="module")
def xml(files):
    return bytes(files["model.xml"]).decode()


@pytest.fixture(scope="module")
def weights_bytes(files):
    return len(files["model.bin"])


def refused(xml, weights_bytes):
    with pytest.raises(ModelRefused) as caught:
        scan_ir(xml if isinstance(xml, bytes) else xml.encode(), weights_bytes)
    assert caught.value.reason == "model.refused"
    return caught.value.why


def test_an_ordinary_topology_passes(xml, weights_bytes):
    scan_ir(xml.encode(), weights_bytes)


def test_document_types_and_entities(xml, weights_bytes):
    for doctype in (
        "<!DOCTYPE net>",
        '<!DOCTYPE net SYSTEM "http://127.0.0.1/x.dtd">',
        '<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>',
        '<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    ):
        assert "document type" in refused(xml.replace("<net", doctype + "<net", 1), weights_bytes)


def test_an_undefined_entity(xml, weights_bytes):
    assert "well-formed" in refused(xml.replace("<layers>", "<layers>&a;", 1), weights_bytes)


def test_an_operation_from_an_extension_library(xml, weights_bytes):
    for version in ("extension", "custom", "opset", "opset1x", "", "opset99"):
        assert "operation sets" in refused(
            re.sub(r'version="opset\d+"', f'version="{version}"', xml, count=1), weights_bytes
        )


def test_an_attribute_that_points_outside(xml, weights_bytes):
    for name in ("path", "Library", "location"):
        assert "outside" in refused(xml.replace("<data ", f'<data {name}="/lib/x.so" ', 1), weights_bytes)


def test_an_unknown_element(xml, weights_bytes):
    assert "unknown element" in refused(xml.replace("<edges>", '<extension path="x"/><edges>', 1), weights_bytes)


def test_a_constant_outside_the_weights(xml, weights_bytes):
    assert "outside the weights" in refused(xml, weights_bytes - 1)
    assert "offset" in refused(re.sub(r'offset="\d+"', 'offset="-4"', xml, count=1), weights_bytes)
    huge = re.sub(r'offset="\d+"', f'offset="{(1 << 63) - 1}"', xml, count=1)
    assert refused(huge, weights_bytes)


def test_a_constant_whose_shape_and_size_differ(xml, weights_bytes):
    first = re.search(r'element_type="f32" shape="([\d, ]+)"', xml)
    assert "differ" in refused(xml.replace(first[1], "1000000, 1000000", 1), weights_bytes)
    assert "fixed shape" in refused(xml.replace(first[1], "?, 3", 1), weights_bytes)
    endless = ", ".join(["999999999999999999"] * 100_000)  # whose product alone takes minutes
    assert "too large" in refused(xml.replace(first[1], endless, 1), weights_bytes)


@pytest.mark.attack("F08")
@pytest.mark.parametrize("kind", ["dynamic", "undefined", "string", "FP32", ""])
def test_a_constant_of_no_known_type(xml, weights_bytes, kind):
    """Of a constant whose type is dynamic OpenVINO takes no bytes, and computes with what lies behind them."""
    assert "type of element" in refused(xml.replace('element_type="f32"', f'element_type="{kind}"'), weights_bytes)


@pytest.mark.attack("F08")
def test_a_constant_without_a_type_is_refused_in_a_model_of_any_format(xml, files):
    weights = ov.Tensor(np.frombuffer(files["model.bin"], np.uint8))
    model = ov.Core().read_model(xml.replace('element_type="f32" shape', 'element_type="dynamic" shape'), weights)
    with pytest.raises(ModelRefused, check=because("no type of element")):
        make_safe(model)


@pytest.mark.attack("F08")
@pytest.mark.parametrize("kind", ["Constant", "const", "CONSTANT"])
def test_a_constant_under_another_name(xml, weights_bytes, kind):
    """OpenVINO makes a constant without elements of it, and ends the process when it computes with it."""
    assert "not called Const" in refused(xml.replace('type="Const"', f'type="{kind}"', 1), weights_bytes)


def test_a_huge_dimension(xml, weights_bytes):
    for dim in ("99999999999999", "10" * 10, "-2", "1e9", "0x10", ""):
        assert refused(xml.replace("<dim>32</dim>", f"<dim>{dim}</dim>", 1), weights_bytes)


def test_a_product_of_dimensions(xml, weights_bytes):
    assert "too large" in refused(xml.replace("<dim>32</dim>", "<dim>3000000</dim>"), weights_bytes)


def test_deep_nesting(weights_bytes):
    deep = "<net><layers>" + "<layer version='opset1'><body>" * 100
    assert "deeply" in refused(deep, weights_bytes)


def test_not_a_topology(weights_bytes):
    for junk in (b"", b"<net/>", b"<other/>", b"\x00" * 100, b"<net>", b"<?php x?><net/>", "<net/>".encode("utf-16")):
        assert refused(junk, weights_bytes)


def test_too_large(weights_bytes):
    assert "too large" in refused(b" " * ((64 << 20) + 1), weights_bytes)


@given(st.binary(max_size=300))
def test_any_bytes_pass_or_are_refused(junk):
    for scan in (lambda: scan_ir(junk, 0), lambda: scan_onnx(memoryview(junk))):
        try:
            scan()
        except InvalidRequest:
            continue


def test_an_ordinary_onnx_passes():
    scan_onnx(memoryview(networks.onnx()))


def test_onnx_data_in_another_file():
    with pytest.raises(ModelRefused, check=because("another file")):
        scan_onnx(memoryview(networks.onnx(external=True)))


@pytest.mark.attack("F08")
def test_onnx_data_in_another_file_that_a_tag_of_33_bits_hides():
    """Protobuf's parsers read the lower 32, and OpenVINO follows what they then find."""
    with pytest.raises(ModelRefused, check=because("protobuf")):
        scan_onnx(memoryview(networks.onnx(external=True, hidden=1 << 29)))


@pytest.mark.attack("F08")
def test_a_number_that_parsers_cut_off():
    for kept in (0, 1):
        with pytest.raises(ModelRefused, check=because("protobuf")):
            scan_onnx(memoryview(networks.onnx() + networks.field(1, (1 << 64) + kept)))


def test_a_cut_onnx():
    whole = networks.onnx()
    with pytest.raises(InvalidRequest):
        scan_onnx(memoryview(whole[:-1]))
