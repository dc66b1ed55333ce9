"""Files of configuration folders that a user names."""

import pytest

from brcd_lightning.cli.config_folders import require_short_files
from brcd_lightning.errors import InputError

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)


def write(folder, text):
    path = folder / "experiment" / "theirs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", [BOMB, "a: &a [1, *a]\n"], ids=["grows", "endless"])
@pytest.mark.parametrize("flag", ["--config-dir={}", "--config-dir {}", "-cd {}", "--config-path={}", "--config-d={}"])
def test_a_file_of_too_many_references_is_refused_by_its_name(tmp_path, text, flag):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=f"{path} refers to its own values .* more than 100,000; write them out"):
        require_short_files([*flag.format(tmp_path).split(), "+experiment=theirs"])


@pytest.mark.parametrize("text", ["a: &a {lr: 0.1}\nb: *a\nc: [*a, *a]\n", "a: [\n b: & *{", "", "a: '&*'\n"])
def test_other_files_are_left_to_hydra(tmp_path, capsys, text):
    write(tmp_path, text)
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "binary.yaml").write_bytes(b"&\xff\xfe*\0")
    require_short_files([f"--config-dir={tmp_path}"])
    require_short_files(["bits=32"])
    require_short_files(["--config-dir"])
    require_short_files([f"--config-dir={tmp_path}/nowhere"])
    require_short_files(["--config=a"])
    assert capsys.readouterr() == ("", "")
