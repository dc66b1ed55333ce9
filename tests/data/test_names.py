import pytest
import torch

from brcd_lightning.data.names import class_names, dataset_name, label_text, names_of_folders, printable, shortened


@pytest.mark.parametrize(
    ("choice", "options", "name"),
    [
        ("cifar10", {"root": "data/other"}, "cifar10"),
        ("my_photos", {"root": "/data/other"}, "my_photos"),
        ("image_folder", {"root": "/home/someone/cats"}, "cats"),
        ("image_list", {"root": "/home/someone/cats/"}, "cats"),
        ("images", {"root": "~/cats"}, "cats"),
        ("images", {"root": "cats\x1b[0m\n 2"}, "cats [0m 2"),
        ("images", {"root": "/"}, "images"),
        ("images", {"root": ".."}, "images"),
        ("images", {"root": None}, "images"),
        ("images", {}, "images"),
        ("images", {"root": ["a"]}, "images"),
        ("huggingface", {"name": "uoft-cs/cifar10", "data_dir": "a/b"}, "uoft-cs/cifar10"),
        ("huggingface", {"name": "imagefolder", "data_dir": "/home/someone/cats"}, "cats"),
        ("huggingface", {"name": "mnist", "data_dir": None}, "mnist"),
        ("huggingface", {"name": "/home/someone/cats"}, "cats"),
        ("huggingface", {"name": None}, "huggingface"),
    ],
)
def test_a_data_set_has_a_name_and_no_path(choice, options, name):
    assert dataset_name(choice, options) == name


def test_a_relative_folder_is_named_by_the_place_it_starts_from():
    assert dataset_name("images", {"root": "."}, "/home/someone/cats") == "cats"
    assert dataset_name("images", {"root": "../dogs"}, "/home/someone/cats") == "dogs"
    assert dataset_name("images", {"root": ".."}, "/home/someone/cats") == "someone"


def test_classes_without_names_are_numbers():
    assert class_names(["cat", ""], 3) == ["cat", "1", "2"]
    assert class_names([], 2) == ["0", "1"]


def test_the_labels_of_an_image_are_the_names_of_its_classes():
    assert label_text(torch.tensor(1), ["cat", "dog"]) == "dog"
    assert label_text(torch.tensor(1), []) == "class 1"
    assert label_text(torch.tensor([1, 0, 1]), ["cat", "dog", "emu"]) == "cat, emu"
    assert label_text(torch.tensor([1, 0, 1]), []) == "class 0, 2"
    assert label_text(torch.tensor([0, 0]), ["cat", "dog"]) == "no label"


def test_folders_of_imagenet_are_named_in_english():
    assert names_of_folders(["n01514668", "n02391049"]) == ["cock", "zebra"]
    assert names_of_folders(["n02012849", "n03126707"]) == ["crane (n02012849)", "crane (n03126707)"]
    assert names_of_folders(["n01514668", "cat"]) == ["n01514668", "cat"]
    assert names_of_folders(["n01514668", "n99999999"]) == ["n01514668", "n99999999"]
    assert names_of_folders([]) == []


def test_text_fits():
    assert shortened("person, dog, cat", 12) == "person, dog…"
    assert shortened("person, dog", 11) == "person, dog"
    assert printable("a\n\tb\u202e\udce4c ") == "a b c"
