import numpy as np
import onnx
import pytest
import torch

from brcd_lightning.data.image_names import image_names
from brcd_lightning.deployment.encoding.corpus import EncodeOptions, encode_corpus
from brcd_lightning.deployment.encoding.parts import read_description, read_parts
from brcd_lightning.deployment.export.onnx_model import export_onnx
from brcd_lightning.deployment.export.onnx_runtime import OnnxRuntime, with_onnx
from brcd_lightning.deployment.export.quantisation import quantise
from brcd_lightning.errors import InputError
from small_encoder import make_encoder, write_images


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "student.onnx"
    export_onnx(make_encoder(), path)
    return path


def test_threads_encode_a_corpus_with_one_session(tmp_path, model):
    encoder = make_encoder()
    write_images(tmp_path / "photos", 40)
    images, options = image_names(tmp_path / "photos"), EncodeOptions(batch_size=4, threads=4, progress=False)
    encode_corpus(with_onnx(encoder, model), images, tmp_path / "onnx", options)
    encode_corpus(encoder, images, tmp_path / "torch", options)
    assert read_description(tmp_path / "onnx").runtime == "onnx"
    codes = [np.concatenate([part.codes for part in read_parts(tmp_path / name)]) for name in ("onnx", "torch")]
    assert np.array_equal(*codes)


def test_a_file_of_another_encoder_is_refused(model):
    with pytest.raises(InputError, match=rf"is of encoder {make_encoder().fingerprint}, not of 0000; export"):
        OnnxRuntime(model, "0000")


def test_int8_is_refused_where_codes_must_be_those_of_the_model(tmp_path, model):
    quantise(model, tmp_path / "small.onnx", [torch.zeros(2, 3, 16, 16, dtype=torch.uint8)])
    with pytest.raises(InputError, match=r"small.onnx is int8, whose codes differ .* give the float32 file"):
        with_onnx(make_encoder(), tmp_path / "small.onnx")
    assert with_onnx(make_encoder(), tmp_path / "small.onnx", any_precision=True).runtime_name == "onnx_int8"


def test_other_files_are_refused(tmp_path, model):
    with pytest.raises(InputError, match="is not a file; write it with brcd export"):
        OnnxRuntime(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(model.read_bytes()[:1000])
    with pytest.raises(InputError, match="is not an ONNX file, or a damaged one"):
        OnnxRuntime(tmp_path / "bad.onnx")
    other = onnx.load(model)
    other.ClearField("metadata_props")
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="is not an encoder that brcd export has written"):
        OnnxRuntime(tmp_path / "other.onnx")
