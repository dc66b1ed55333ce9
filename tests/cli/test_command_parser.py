import pytest

from brcd_lightning.cli.command_parser import CommandParser, integer, unit_interval
from brcd_lightning.errors import InputError


@pytest.fixture
def parser():
    made = CommandParser(prog="brcd x")
    made.add_argument("image")
    made.add_argument("--threads", type=integer(1, 8))
    made.add_argument("--recall", type=unit_interval)
    made.add_argument("--role", choices=("student", "teacher"))
    return made


def test_good_arguments(parser):
    given = parser.parse_args(["a.png", "--threads", "8", "--recall", "1"])
    assert (given.threads, given.recall) == (8, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: image. brcd x --help explains all arguments."),
        (["a", "--threads", "9"], "--threads must be an integer in 1..8, got '9'."),
        (["a", "--threads", "１"], "--threads must be an integer in 1..8, got '１'."),
        (["a", "--recall", "nan"], "--recall must be a number in [0, 1], got 'nan'."),
        (["a", "--role", "both"], "--role: invalid choice: 'both' (choose from"),
        (["a", "--thread", "1"], "unrecognized arguments: --thread 1. Did you mean '--threads'? brcd x --help"),
        (["a", "b\nc"], "unrecognized arguments: b c."),
    ],
)
def test_a_mistake_is_one_line(parser, arguments, message):
    with pytest.raises(InputError) as caught:
        parser.parse_args(arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
