import numpy as np
import onnx
import pytest
import torch

from brcd_lightning.deployment.export.onnx_model import description_of, export_onnx
from brcd_lightning.deployment.export.onnx_runtime import OnnxRuntime
from brcd_lightning.errors import InputError
from small_encoder import TRANSFORM, make_encoder


@pytest.mark.parametrize(("role", "bits"), [("student", 16), ("teacher", 13)])
def test_the_file_gives_the_codes_and_values_of_the_network(tmp_path, role, bits):
    encoder = make_encoder(role, bits=bits)
    told = export_onnx(encoder, tmp_path / "model.onnx")
    assert (told.bits, told.role, told.fingerprint) == (bits, role, encoder.fingerprint)
    runtime = OnnxRuntime(tmp_path / "model.onnx", encoder.fingerprint)
    assert runtime.description == told
    assert told.transform == TRANSFORM
    for count in (1, 2, 5):
        pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8)
        expected = encoder.encode_pixels(pixels)
        found = runtime(pixels)
        assert np.array_equal(found.codes, expected.codes)
        assert np.allclose(found.values, expected.values, atol=1e-5)


def test_a_logit_of_zero_is_a_one(tmp_path):
    encoder = make_encoder(bits=16)
    for parameter in encoder.network.hashing_model.head.parameters():
        parameter.data.zero_()
    export_onnx(encoder, tmp_path / "model.onnx")
    assert (OnnxRuntime(tmp_path / "model.onnx")(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)).codes == 255).all()


def test_the_file_is_one_and_names_no_path_of_the_machine(tmp_path):
    export_onnx(make_encoder(), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert b".py" not in (tmp_path / "model.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


def test_metadata_of_something_else_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not an encoder that brcd export has written"):
        description_of({"format": "other"}, tmp_path)
