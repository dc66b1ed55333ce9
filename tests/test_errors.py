import pytest

from brcd_lightning.errors import (
    InputError,
    did_you_mean,
    require_choice,
    require_positive,
    require_positive_int,
    require_unit_interval,
)


def test_suggestions():
    assert did_you_mean("alhpa", ["alpha", "delta"]) == " Did you mean 'alpha'?"
    assert did_you_mean("zzz", ["alpha", "delta"]) == ""


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (require_choice, ("x", "c", ["a", "b"])),
        (require_positive_int, ("x", True)),
        (require_positive_int, ("x", 1.0)),
        (require_positive, ("x", float("inf"))),
        (require_positive, ("x", "1")),
        (require_unit_interval, ("x", float("nan"))),
    ],
)
def test_refusals_name_the_option_and_the_value(check, arguments):
    with pytest.raises(InputError, match=f"x must be .*got {arguments[1]!r}"):
        check(*arguments)
