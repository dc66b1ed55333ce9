"""What options may be, and what is said of those that may not."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Annotated, Literal

import pytest
from annotated_types import Interval, Len

from brcd_lightning.errors import InputError
from brcd_lightning.options import (
    NonNegative,
    NonNegativeInt,
    OptionError,
    Positive,
    PositiveInt,
    Seed,
    Temperature,
    Text,
    UnitInterval,
    Workers,
    checked,
    require_arguments,
    require_option,
)

HUGE = 10**400
WRONG = [
    (PositiveInt, 0, "a positive integer, got 0"),
    (PositiveInt, True, "a positive integer, got True"),
    (PositiveInt, 2.0, "a positive integer, got 2.0"),
    (PositiveInt, "2", "a positive integer, got '2'"),
    (PositiveInt, [2], r"a positive integer, got \[2\]"),
    (PositiveInt, 2**31, "an integer of at least 1 and at most 2147483647, got 2147483648"),
    (PositiveInt | None, 0, "a positive integer or null, got 0"),
    (NonNegativeInt, -1, "an integer of at least 0, got -1"),
    (Seed, 2**32, "an integer of at least 0 and below 4294967296, got"),
    (Positive, 0, "a positive number, got 0"),
    (Positive, float("nan"), "a positive number, got nan"),
    (Positive, float("inf"), "a positive number, got inf"),
    (Positive, HUGE, "a positive number, got 1000"),
    (Positive, 1e300, r"a number above 0 and at most 1e\+12, got 1e\+300"),
    (Positive, True, "a positive number, got True"),
    (NonNegative, -0.5, "a number of at least 0, got -0.5"),
    (UnitInterval, 1.5, r"in \[0, 1\], got 1.5"),
    (UnitInterval, "0.5", r"in \[0, 1\], got '0.5'"),
    (Temperature, 0, "a positive number, got 0"),
    (Temperature, 1e-9, r"a number of at least 1e-06 and at most 1e\+06, got 1e-09"),
    (bool, "maybe", "true or false, got 'maybe'"),
    (bool, 1, "true or false, got 1"),
    (str, 3, "text, got 3"),
    (Text, "", "text that is not empty, got ''"),
    (str | PathLike[str], None, "text or a path, got None"),
    (str | PathLike[str], b"a", "text or a path, got b'a'"),
    (Literal["mean", "sum"], "maen", "one of mean, sum, got 'maen'. Did you mean 'mean'?"),
    (Literal["mean", "sum"], ["mean"], r"one of mean, sum, got \['mean'\]"),
    (Positive | Literal["loo"], "lo", "a positive number or one of loo, got 'lo'. Did you mean 'loo'?"),
    (Sequence[PositiveInt], [4, 0], r"a list, each item a positive integer, got \[4, 0\]"),
    (Sequence[PositiveInt], "48", "a list, each item a positive integer, got '48'"),
    (Sequence[PositiveInt], [2**31], r"a list, each item an integer of at least 1 and at most 2147483647, got \[2147"),
    (Annotated[Sequence[PositiveInt], Len(1, 2)], [], r"a list of 1 to 2, each item a positive integer, got \[\]"),
    (Annotated[Sequence[PositiveInt], Len(2, 2)], [1], r"a list of 2, each item a positive integer, got \[1\]"),
    (Workers, 10**12, "an integer of at least 0 and at most 4096, got 1000000000000"),
    (Mapping[str, NonNegative], {"a": -1}, "options by name, each a number of at least 0, got {'a': -1}"),
    (int, None, "an integer, got None"),
    (Annotated[float, Interval(gt=0, lt=0.5)], 0.5, "a number above 0 and below 0.5, got 0.5"),
]


@pytest.mark.parametrize(("hint", "value", "message"), WRONG)
def test_a_wrong_value_is_named_with_what_it_must_be(hint, value, message):
    with pytest.raises(InputError, match=f"^group.option must be {message}"):
        require_option("group.option", value, hint)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (PositiveInt, 1),
        (PositiveInt | None, None),
        (Positive, 1),
        (UnitInterval, 0),
        (bool, False),
        (Literal["mean"], "mean"),
        (Sequence[PositiveInt], (1, 2)),
        (Sequence[PositiveInt], []),
        (Mapping[str, float], {"a": 1}),
    ],
)
def test_right_values_pass(hint, value):
    require_option("option", value, hint)


def test_a_message_shows_the_beginning_of_a_long_value():
    with pytest.raises(InputError) as raised:
        require_option("option", ["x" * 10_000] * 3, PositiveInt)
    assert len(str(raised.value)) < 300
    assert str(raised.value).endswith("xxx....")


@checked("group")
def example(network: object, bits: PositiveInt, *, share: UnitInterval = 0.5, kind: Literal["a", "b"] = "a") -> tuple:
    """A function with options."""
    return network, bits, share, kind


@checked("group")
@dataclass(frozen=True)
class Options:
    """Options as a data class."""

    bits: PositiveInt = 4


class Parent:
    @checked("group")
    def __init__(self, bits: PositiveInt = 4) -> None:
        self.bits = bits


class Child(Parent):
    def __init__(self, other: int = 1, **options: int) -> None:
        super().__init__(**options)


def test_arguments_reach_a_function_as_they_were_given():
    assert example(sys, 3, share=1, kind="b") == (sys, 3, 1, "b")
    assert isinstance(example(None, 3, share=1)[2], int)
    assert Options(3).bits == 3
    assert Child(bits=5).bits == 5
    assert example.__name__ == "example"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: example(None, 0), "group.bits must be a positive integer, got 0"),
        (lambda: example(None, bits=2, share=2), r"group.share must be in \[0, 1\], got 2"),
        (lambda: example(None, 2, kind="c"), "group.kind must be one of a, b, got 'c'"),
        (lambda: Options(bits=0), "group.bits must be a positive integer, got 0"),
        (lambda: Child(bits=True), "group.bits must be a positive integer, got True"),
    ],
)
def test_the_first_wrong_argument_is_refused(call, message):
    with pytest.raises(OptionError, match=message):
        call()


@checked("group")
def with_others(bits: PositiveInt = 4, *numbers: int, **others: int) -> int:
    """A function that takes further arguments."""
    return bits + sum(numbers) + sum(others.values())


def test_further_arguments_are_left_to_the_function():
    assert with_others(1, 2, more=3) == 6


@pytest.mark.parametrize("target", [example, Options, Parent])
def test_some_arguments_are_refused_without_a_call(target):
    require_arguments(target, {"bits": 1})
    require_arguments(target, {"unknown": 0})
    with pytest.raises(OptionError, match=r"group.bits must be a positive integer, got \[1\]"):
        require_arguments(target, {"bits": [1]})


def test_options_that_a_constructor_passes_on_are_checked_too():
    require_arguments(Child, {"other": 2, "bits": 3})
    with pytest.raises(OptionError, match=r"group.bits must be a positive integer, got \[1\]"):
        require_arguments(Child, {"bits": [1]})


def test_what_is_not_checked_refuses_no_argument():
    require_arguments(print, {"bits": 0})


def test_a_call_that_does_not_fit_is_the_function_s_own_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'bitz'"):
        example(None, bitz=3)


def test_an_error_moves_with_its_group():
    error = OptionError("hashing_model", "tau", "must be a positive number, got 0.")
    assert str(error.at("teacher.hashing_model")) == "teacher.hashing_model.tau must be a positive number, got 0."
    assert str(error.at("kd_method")) == str(error)
    assert str(OptionError("", "k", "must be 1.").at("teacher.hashing_model")) == "k must be 1."
