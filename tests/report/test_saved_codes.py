import pytest
import torch
from safetensors.torch import load_file, save_file

from brcd_lightning.errors import InputError
from brcd_lightning.report.records import Records
from brcd_lightning.report.saved_codes import Side, TensorFile, memberships, read_teacher_codes
from recorded import write_run


def change(path, **tensors):
    """Writes a file of tensors again with some of them replaced, or left out where None is given."""
    kept = {name: tensor for name, tensor in (load_file(path) | tensors).items() if tensor is not None}
    save_file(kept, path)
    return path


def test_damaged_codes_are_named(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "a" / "codes.safetensors").write_bytes(b"12345678901234567890")
    (run,) = Records([tmp_path]).runs
    with pytest.raises(InputError, match="codes.safetensors cannot be read"):
        run.codes("student", "query")


@pytest.mark.parametrize(
    "labels",
    [torch.zeros(3).long(), torch.zeros(24, 0).long(), torch.zeros(24), torch.tensor(1), torch.arange(24) - 1],
    ids=["fewer", "no class", "no integers", "scalar", "negative"],
)
def test_labels_belong_to_their_codes(tmp_path, labels):
    path = change(write_run(tmp_path / "a") / "codes.safetensors", query_labels=labels)
    with pytest.raises(InputError, match=r"codes.safetensors has no codes and labels that belong together"):
        TensorFile(path).side("student", "query")
    assert len(TensorFile(path).side("student", "database").labels) == 80


def _one_hot(labels):
    return torch.nn.functional.one_hot(labels)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"query_labels": _one_hot(torch.arange(24) % 4)}, "lists of relevant ids must name each id once"),
        ({"database_labels": torch.full((80,), 10**6)}, "class indices up to 1000000, of fewer images"),
        ({"database_labels": torch.full((80,), 2**62)}, f"class indices up to {2**62}, of fewer images"),
        ({"student_query_packed": torch.zeros(24, 1, dtype=torch.uint8)}, "no packed codes of one length"),
        ({"student_database_packed": torch.zeros(80, 2)}, "no packed codes of one length"),
    ],
)
def test_both_sides_belong_together(tmp_path, tensors, message):
    path = change(write_run(tmp_path / "a") / "codes.safetensors", **tensors)
    with pytest.raises(InputError, match=rf"codes\.safetensors.* {message}"):
        TensorFile(path).side("student", "database")


@pytest.mark.parametrize("name", ["codes", "expectations", "masks", "view_codes"])
def test_teacher_codes_are_numbers(tmp_path, name):
    path = write_run(tmp_path / "a") / "teacher_codes.safetensors"
    change(path, **{name: load_file(path)[name].float() / 0})
    with pytest.raises(InputError, match=rf"teacher_codes\.safetensors has non-finite values in {name}"):
        read_teacher_codes(path)


def test_a_file_of_teacher_codes_may_be_absent(tmp_path):
    assert read_teacher_codes(tmp_path / "absent.safetensors") == {}


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"codes": torch.zeros(60)}, "no codes of shape"),
        ({"codes": torch.zeros(0, 16)}, "no codes of shape"),
        ({"masks": torch.zeros(4, 8)}, "masks of other bits"),
        ({"masks": torch.zeros(2, 16)}, "expectations and masks of different numbers"),
        ({"assignments": torch.zeros(10).long()}, "assignments that do not belong"),
        ({"assignments": torch.zeros(60)}, "assignments that do not belong"),
        ({"assignments": torch.full((60,), -1)}, "assignments that do not belong"),
        ({"assignments": torch.full((60,), 4)}, "assignments that do not belong"),
        ({"view_index": torch.arange(30)}, "views that do not belong"),
        ({"view_index": torch.arange(56) + 10}, "views that do not belong"),
    ],
)
def test_teacher_codes_fit_each_other(tmp_path, tensors, problem):
    path = change(write_run(tmp_path / "a") / "teacher_codes.safetensors", **tensors)
    with pytest.raises(InputError, match=f"teacher_codes.safetensors has {problem}"):
        read_teacher_codes(path)


def test_a_tensor_that_is_missing_is_named(tmp_path):
    path = change(write_run(tmp_path / "a") / "teacher_codes.safetensors", expectations=None)
    with pytest.raises(InputError, match=r"teacher_codes.safetensors has no expectations"):
        read_teacher_codes(path)["expectations"]


def test_a_sample_holds_all_classes_of_an_ordered_data_set():
    labels = torch.arange(10).repeat_interleave(100)
    side = Side(torch.zeros(1000, 2, dtype=torch.uint8), labels)
    sample = side.sample(200)
    assert len(sample.packed) == len(sample.labels) == 200
    assert sample.labels.bincount().min() > 5
    assert torch.equal(side.sample(200).labels, sample.labels)
    assert torch.equal(side.sample(5000).labels, labels)


def test_labels_become_memberships():
    assert memberships(torch.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert memberships(torch.tensor([[1, 1]])).tolist() == [[1, 1]]
