import re

import pytest

from brcd_lightning.errors import (
    ExitCode,
    InputError,
    RunEnded,
    did_you_mean,
    require_choice,
    require_non_negative_int,
    require_positive_int,
)
from conftest import ROOT


def test_suggestions():
    assert did_you_mean("alhpa", ["alpha", "delta"]) == " Did you mean 'alpha'?"
    assert did_you_mean("zzz", ["alpha", "delta"]) == ""


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (require_choice, ("x", "c", ["a", "b"])),
        (require_positive_int, ("x", True)),
        (require_positive_int, ("x", 1.0)),
        (require_non_negative_int, ("x", -1)),
        (require_non_negative_int, ("x", False)),
    ],
)
def test_refusals_name_the_option_and_the_value(check, arguments):
    with pytest.raises(InputError, match=f"x must be .*got {arguments[1]!r}"):
        check(*arguments)


def test_every_exit_code_is_documented():
    text = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([A-Z_`, ]+) \|", text, flags=re.MULTILINE)
    documented = {name: int(code) for code, names in rows for name in re.findall(r"[A-Z_]+", names)}
    assert documented == {name: int(code) for name, code in ExitCode.__members__.items()}
    assert RunEnded("lost").exit_code is ExitCode.CRASH
