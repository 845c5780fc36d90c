"""Networks as ONNX files.

Oracle: onnxruntime, which runs the files without handcnn.
"""

import errno
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import EXAMPLE_SHAPE, EXAMPLES, filled, refused

from handcnn import Conv2D, HandcnnError, Network, OutputLayer, load_network
from handcnn.layers import LAYERS, Layer, ReLU
from handcnn.models import NETWORKS
from handcnn.storage.onnx_file import NODES
from handcnn.types import Array

onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")


def outputs(path: Path, x: Array) -> Array:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(["probabilities"], {"images": x.astype(np.float32)})
    found: Array = result
    return found


def images(count: int, *shape: int) -> Array:
    return np.random.default_rng(1).random((count, *shape), np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_thousand_images_have_the_same_probabilities(name: str, tmp_path: Path) -> None:
    net = NETWORKS[name](rng=np.random.default_rng(0))
    for parameter in net.parameters().values():  # a bias of 0 would hide a mistake
        parameter += np.random.default_rng(2).normal(0, 0.02, parameter.shape)
    net.to_onnx(tmp_path / "net.onnx")
    for count in (1000, 7, 1):
        x = images(count, 1, 28, 28)
        expected = net.predict_proba(x)
        np.testing.assert_allclose(outputs(tmp_path / "net.onnx", x), expected, rtol=0, atol=1e-5)
        assert np.median(expected.max(axis=1)) < 0.95  # far from 0 and 1


def test_the_reader_answers_as_before(tmp_path: Path) -> None:
    net = load_network()
    net.to_onnx(tmp_path / "reader.onnx")
    x = images(1000, 1, 28, 28)
    found = outputs(tmp_path / "reader.onnx", x)
    np.testing.assert_allclose(found, net.predict_proba(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_layer_with_its_strides_and_padding(example: str, tmp_path: Path) -> None:
    """Behind a layer for images of odd sizes, an output layer flattens them."""
    layer, shape = EXAMPLES[example], EXAMPLE_SHAPE[1:]
    size = int(np.prod(layer.output_shape(shape)))
    net = filled(Network([layer, OutputLayer(size, 3)], shape), scale=0.3)
    net.to_onnx(tmp_path / "net.onnx")
    x = np.random.default_rng(1).standard_normal((5, *shape))
    found = outputs(tmp_path / "net.onnx", x)
    np.testing.assert_allclose(found, net.forward(x), rtol=0, atol=1e-5)


def test_every_layer_has_its_nodes() -> None:
    assert set(NODES) == set(LAYERS.values())


def test_a_file_is_complete_or_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refused(lambda: load_network().to_onnx(path), OSError)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


class Stranger(ReLU):
    """A layer that is not one of handcnn's."""


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            Conv2D(1, 2, 3),
            None,
            "to_onnx expects a network that knows the shape of an image, got one without; give it "
            "to Network(layers, input_shape)",
        ),
        (
            Stranger(),
            (8,),
            "to_onnx expects layers of InputLayer, Conv2D, MaxPool2D, ReLU, HiddenLayer, "
            "OutputLayer, got Stranger()",
        ),
    ],
)
def test_networks_that_onnx_cannot_hold(
    layer: Layer, shape: tuple[int, ...] | None, message: str, tmp_path: Path
) -> None:
    net = Network([layer, OutputLayer(8, 2)], shape)
    assert refused(lambda: net.to_onnx(tmp_path / "net.onnx")) == message
    assert not list(tmp_path.iterdir())


def test_without_the_library_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert refused(lambda: load_network().to_onnx(tmp_path / "net.onnx"), HandcnnError) == (
        "onnx is not installed in this Python; install it with: python -m pip install onnx"
    )
