"""Types and ranges of options, and the check of a function's arguments against its annotations.

The annotations of a constructor define the values that each option accepts. `checked` validates arguments against them
before anything else is done, whether they come from Python or from a configuration.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, wraps
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt, MaxLen, MinLen

from brcd_lightning.errors import InputError, did_you_mean

_LARGE = 2**31 - 1

PositiveInt = Annotated[int, Interval(ge=1, le=_LARGE)]
NonNegativeInt = Annotated[int, Interval(ge=0, le=_LARGE)]
Seed = Annotated[int, Interval(ge=0, lt=2**32)]
Positive = Annotated[float, Interval(gt=0, le=1e12)]
NonNegative = Annotated[float, Interval(ge=0, le=1e12)]
UnitInterval = Annotated[float, Interval(ge=0, le=1)]
Temperature = Annotated[float, Interval(ge=1e-6, le=1e6)]
"""Outside this range, scores divided by the temperature become equal or overflow in single precision."""
Text = Annotated[str, MinLen(1)]
ImageSize = Annotated[int, Interval(ge=1, le=4096)]
"""Side of images in pixels."""
BatchSize = Annotated[int, Interval(ge=1, le=2**20)]
Workers = Annotated[int, Interval(ge=0, le=4096)]
"""Number of worker processes; a machine may allow fewer."""
Head = Literal["linear", "mlp"]
"""Head of a hashing model: one linear layer, or an MLP with one hidden layer."""
Role = Literal["student", "teacher"]
"""Role of a network."""
AnchorView = Literal["clean", "aug"]
"""Image on which a distillation loss is computed: under the evaluation transform, or augmented."""

_SCALARS = (bool, int, float, str, Path, types.NoneType)
_SEVERAL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_LENGTHS: dict[type, str] = {MinLen: "min_length", MaxLen: "max_length"}
_CHECK = "__require_arguments__"
"""Attribute that holds the check of a decorated function."""
_SHOWN = 200
"""Maximum number of characters of a wrong value in a message."""
Target = TypeVar("Target", bound=Callable[..., Any])


class OptionError(InputError):
    """A wrong option.

    Args:
        group: group of the configuration; empty for none.
        option: name within the group, with the index in a list, such as ``widths[1]``.
        problem: the required and the given value, in words.
    """

    def __init__(self, group: str, option: str, problem: str) -> None:
        super().__init__(f"{group}.{option} {problem}" if group else f"{option} {problem}")
        self.group, self.option, self.problem = group, option, problem

    def at(self, key: str) -> OptionError:
        """The same error for a group at another key, such as ``teacher.hashing_model``."""
        moved = self.group and key.endswith(f".{self.group}")
        return OptionError(key, self.option, self.problem) if moved else self


def checked(group: str = "") -> Callable[[Target], Target]:
    """Decorator that checks the arguments of a function, or of a class's constructor, against their annotations.

    Only options are checked: parameters annotated as numbers, strings, choices, paths, or lists and mappings of these.

    Args:
        group: configuration group of the options, for messages; empty for none.
    """

    def decorate(target: Target) -> Target:
        if isinstance(target, type):
            target.__init__ = _checking(target.__init__, group)  # type: ignore[misc]  # of the class that is decorated
            return target
        return _checking(target, group)

    return decorate


def require_option(key: str, value: object, hint: Any) -> None:
    """Raises `OptionError` unless a value matches an annotation.

    Args:
        key: full name of the option.
        value: its value.
        hint: the annotation, such as `PositiveInt` or ``Literal["a", "b"]``.
    """
    if isinstance(value, str) and value in get_args(hint):  # fast path for every training step
        return
    _require("", key, value, hint)


def require_arguments(target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises `OptionError` for an argument that `target` would reject; a target that is not `checked` rejects none.

    Args:
        target: a function or a class.
        arguments: some of its arguments, by name.
    """
    for function in _takers(target):
        require = getattr(function, _CHECK, None)
        if require is not None:
            require(arguments)


def _takers(target: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Functions that may take an argument: a constructor with ``**options`` passes them to its parent's constructor."""
    if not isinstance(target, type):
        yield target
        return
    for owner in target.__mro__:
        constructor = owner.__dict__.get("__init__")
        if constructor is not None:
            yield constructor
            kinds = {parameter.kind for parameter in inspect.signature(constructor).parameters.values()}
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                return


def _checking(function: Target, group: str) -> Target:
    signature = inspect.signature(function)
    several = {parameter.name for parameter in signature.parameters.values() if parameter.kind in _SEVERAL}
    hints: dict[str, Any] = {}

    def require(given: Mapping[str, Any]) -> None:
        if not hints:  # forward references in annotations resolve by the first call
            found = get_type_hints(function, include_extras=True)
            options = {name: hint for name, hint in found.items() if _is_option(hint) and name not in several}
            hints.update({"return": None} | options)
        for name, value in given.items():
            if name in hints:
                _require(group, name, value, hints[name])

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # the call itself raises the clearest error
            given = {}
        require(given)
        return function(*args, **kwargs)

    setattr(call, _CHECK, require)
    return call  # type: ignore[return-value]  # of the same signature


def _is_option(hint: Any) -> bool:
    """True for types that a configuration can hold."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_option(get_args(hint)[0])
    if origin in (Literal, PathLike) or hint in _SCALARS:
        return True
    if origin in (Union, types.UnionType, Sequence, Mapping, list, dict, tuple):
        return all(_is_option(part) for part in get_args(hint) if part is not ...)
    return False


@cache
def _adapter(hint: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter  # noqa: PLC0415  # the import takes 0.1 s, paid by the first option

    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))


def _require(group: str, option: str, value: object, hint: Any) -> None:
    from pydantic import ValidationError  # noqa: PLC0415  # see `_adapter`

    try:
        _adapter(hint).validate_python(value)
    except ValidationError as error:
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        hinted = did_you_mean(str(value), _choices(hint)) if isinstance(value, str) else ""
        problem = f"must be {_description(hint, ranges=_is_beyond(error.errors()))}, got {shown}.{hinted}"
        raise OptionError(group, option, problem) from None


def _is_beyond(error: Any) -> bool:
    """True for a number, or a number in a list, of the right type and sign that is out of range."""
    kinds = {"less_than", "less_than_equal", "greater_than_equal"}
    return any(one["type"] in kinds and isinstance(one["input"], int | float) and one["input"] > 0 for one in error)


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if get_origin(hint) in (Union, types.UnionType, Annotated):
        return [choice for part in get_args(hint) for choice in _choices(part)]
    return []


def _description(hint: Any, ranges: bool) -> str:
    """Describes the values that an annotation accepts.

    Args:
        hint: an annotation.
        ranges: whether to name both ends of a range, even an end that only excludes absurd values.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(parts[0], parts[1:], ranges)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_description(part, ranges) for part in parts))
    if origin in (Sequence, list, tuple):
        return f"a list, each item {_description(parts[0], ranges)}"
    if origin in (Mapping, dict):
        return f"options by name, each {_description(parts[1], ranges)}"
    names = {bool: "true or false", int: "an integer", float: "a finite number", types.NoneType: "null"}
    names |= {Path: "a path", PathLike[str]: "a path"}
    return names.get(hint, "text")


def _bounded(kind: Any, metadata: Iterable[Any], ranges: bool) -> str:
    bounds = [each for one in metadata for each in (one if isinstance(one, GroupedMetadata) else [one])]
    if kind is str:
        return "text that is not empty"
    if get_origin(kind) in (Sequence, list):
        least, most = (next((getattr(b, n) for b in bounds if isinstance(b, k)), None) for k, n in _LENGTHS.items())
        size = f"of {least}" if least == most else f"of {least} to {most}"
        return _description(kind, ranges).replace("a list", f"a list {size}", 1)
    ends: dict[type, Any] = {type(one): getattr(one, type(one).__name__.lower()) for one in bounds}
    low, high = ends.get(Gt, ends.get(Ge)), ends.get(Lt, ends.get(Le))
    noun = "an integer" if kind is int else "a number"
    if ends.get(Ge) == 0 and ends.get(Le) == 1:
        return "in [0, 1]"
    if ranges and high is not None:
        least, most = "above" if Gt in ends else "of at least", "below" if Lt in ends else "at most"
        return f"{noun} {least} {_number(low)} and {most} {_number(high)}"
    if Gt in ends or (low and (kind is not int or low == 1)):
        return "a positive integer" if kind is int else "a positive number"
    return f"{noun} of at least {_number(low)}"


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
