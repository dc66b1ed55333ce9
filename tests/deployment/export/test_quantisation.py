import numpy as np

from brcd_lightning.deployment.export.onnx_model import INT8, export_onnx
from brcd_lightning.deployment.export.onnx_runtime import OnnxRuntime
from brcd_lightning.deployment.export.parity import random_images
from brcd_lightning.deployment.export.quantisation import quantise
from small_encoder import make_encoder


def test_int8_keeps_most_bits_and_says_so(tmp_path):
    encoder = make_encoder()
    images = random_images(encoder, 64)
    export_onnx(encoder, tmp_path / "a.onnx")
    quantise(tmp_path / "a.onnx", tmp_path / "b.onnx", images.batches(16))
    runtime = OnnxRuntime(tmp_path / "b.onnx", encoder.fingerprint)
    assert (runtime.name, runtime.description.precision) == ("onnx_int8", INT8)
    pixels = next(images.batches())
    flipped = np.bitwise_count(runtime(pixels).codes.numpy() ^ encoder.encode_pixels(pixels).codes.numpy()).mean() / 8
    assert flipped < 0.25
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "b.onnx"}
