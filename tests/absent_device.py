"""A device that no machine has: tensors of the CPU that say they are elsewhere, and refuse to meet those that are not.

On a GPU an operation on tensors of two devices fails; on a CPU alone nobody would notice. Under `AbsentDevice` what is
on `ABSENT` computes what the CPU computes, bit for bit, and fails where a GPU would: with a tensor that was made on the
CPU and not moved, or with numpy without `.cpu()`. Where the code asks `is_cuda`, it goes the way of a GPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ABSENT = torch.device("lazy")
"""A type that torch knows, that autograd runs on the calling thread, and that has no tensors of its own here."""
_MOVES = {"aten._to_copy.default", "aten.copy_.default"}
_TAKES_INDICES = {"aten.index.Tensor", "aten.index_put.default", "aten.index_put_.default"}
_Generator, _tensor, _autocast = torch.Generator, torch.tensor, torch.autocast


class _Elsewhere(torch.Tensor):
    @staticmethod
    def __new__(cls, inner):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        wrapper = torch.Tensor._make_wrapper_subclass(cls, inner.size(), device=ABSENT, **layout)
        wrapper.inner = inner
        return wrapper

    @property
    def is_cuda(self):
        return True

    def new_tensor(self, data):
        return _tensor(data, dtype=self.dtype).to(ABSENT)

    def __repr__(self, **_):
        return f"elsewhere({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class AbsentDevice(TorchDispatchMode):
    """Makes `ABSENT` a device that tensors can be moved to and made on."""

    def __enter__(self):
        # All three look at the device themselves, past every mode, and know none of this type.
        torch.Generator = lambda device="cpu": _Generator()
        torch.autocast = lambda device, *args, **options: _autocast(_known(device), *args, **options)
        torch.tensor = lambda data, device=None, **options: _tensor(data, **options).to(device or "cpu")
        return super().__enter__()

    def __exit__(self, *exception):
        torch.Generator, torch.tensor, torch.autocast = _Generator, _tensor, _autocast
        return super().__exit__(*exception)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _run(function, args, kwargs):
    name = str(function)
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
    there = [each for each in tensors if isinstance(each, _Elsewhere)]
    here = [each for each in tensors if not isinstance(each, _Elsewhere) and each.ndim]  # numbers go everywhere
    indices = (
        name in _TAKES_INDICES and isinstance(args[0], _Elsewhere) and not any(e.is_floating_point() for e in here)
    )
    if there and here and name not in _MOVES and not indices:
        raise RuntimeError(f"{name}: tensors on two devices, {[(each.device, tuple(each.shape)) for each in tensors]}")
    plain = tree_map(_inner, kwargs)
    device = plain.get("device")
    if device is not None:
        plain["device"] = torch.device("cpu")
    found = function(*tree_map(_inner, args), **plain)
    written = _written(function, args, kwargs)
    if written:
        return written[0] if len(written) == 1 else tuple(written)
    elsewhere = bool(there) if device is None else torch.device(device).type == ABSENT.type
    return tree_map(lambda each: _Elsewhere(each) if elsewhere and isinstance(each, torch.Tensor) else each, found)


def _known(device):
    return "cpu" if device == ABSENT.type else device


def _indices(args):
    """Indices of the CPU, which a GPU takes too."""
    return [each for each in args[1] if isinstance(each, torch.Tensor) and not isinstance(each, _Elsewhere)]


def _inner(value):
    return value.inner if isinstance(value, _Elsewhere) else value


def _written(function, args, kwargs):
    """The arguments that an operation writes and returns."""
    schema = function._schema
    if not any(each.alias_info is not None and each.alias_info.is_write for each in schema.returns):
        return []
    named = dict(zip((each.name for each in schema.arguments), args, strict=False)) | kwargs
    return [named[each.name] for each in schema.arguments if each.alias_info is not None and each.alias_info.is_write]
