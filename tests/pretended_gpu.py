"""A device of its own whose tensors lie in host memory: finds on any machine what a GPU would.

As on a GPU, an operation on tensors of both devices is an error (unless one has no dimensions, or
is an index), tensors of the device have no `numpy()`, and new tensors are on the CPU unless it is
said otherwise.
"""

import torch
from torch import library
from torch.utils._mode_utils import no_dispatch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretended")
PLACE = torch.device("pretended", 0)
# What may have tensors of both devices: copies, and indices.
BOTH = ("copy_", "_to_copy", "index", "index_put_", "_index_put_impl_")


class PretendedTensor(torch.Tensor):
    """Has its values in a tensor of the CPU, `raw`."""

    @staticmethod
    def __new__(cls, raw):
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.shape, raw.stride(), raw.storage_offset(), dtype=raw.dtype, device=PLACE
        )
        made.raw = raw
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})

    def data_ptr(self):
        return self.raw.data_ptr()

    def tolist(self):
        return self.raw.tolist()


def dispatch(function, args, kwargs):
    """Runs an operation on the values, and says on which device the results are."""
    pretended, host = {}, []

    def unwrap(each):
        if isinstance(each, PretendedTensor):
            pretended[id(each.raw)] = each
            return each.raw
        if isinstance(each, torch.Tensor) and each.ndim > 0:
            host.append(each)
        return type(each)(map(unwrap, each)) if type(each) in (list, tuple) else each

    values = [unwrap(each) for each in args]
    named = {name: unwrap(each) for name, each in kwargs.items()}
    name = function.overloadpacket.__name__
    if pretended and host and name not in BOTH:
        raise RuntimeError(f"{name}: tensors on two devices")
    wanted = kwargs.get("device")
    on_place = bool(pretended) if wanted is None else torch.device(wanted).type == PLACE.type
    if name == "copy_":
        on_place = isinstance(args[0], PretendedTensor)
    if wanted is not None:
        named["device"] = "cpu"
    results = function(*values, **named)
    if name == "squeeze_" and pretended:  # in place, as products w @ X end: the shape of both
        with no_dispatch():
            return function(*args, **kwargs)
    if name == "_to_copy" and not on_place and pretended:
        return results

    def place(result):
        if type(result) in (list, tuple):
            return type(result)(map(place, result))
        if not on_place or not isinstance(result, torch.Tensor):
            return result
        known = pretended.get(id(result))
        return PretendedTensor(result) if known is None else known

    return place(results)


def _made(operator):
    """What makes a new tensor of the device: the operator on the CPU."""

    def make(*args, device=None, pin_memory=None, **kwargs):
        return PretendedTensor(operator(*args, device="cpu", **kwargs))

    return make


def _copy_from(source, destination, non_blocking=False):
    """What `torch.tensor` with numbers for another device calls."""
    destination.raw.copy_(source.raw if isinstance(source, PretendedTensor) else source)
    return destination


_LIBRARY = library.Library("aten", "IMPL")
for _name in ("empty.memory_format", "empty_strided", "arange", "arange.start_step"):
    _packet, _, _overload = _name.partition(".")
    _make_operator = getattr(getattr(torch.ops.aten, _packet), _overload or "default")
    _LIBRARY.impl(_name, _made(_make_operator), "PrivateUse1")
_LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")
