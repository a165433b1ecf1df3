"""A card that is none: tensors stay on the CPU and are watched as if some lay on a CUDA device.

Within `card()`, `.to("cuda")` and `device="cuda"` mark a tensor; what is computed from it is marked
too, and says that it is on "cuda:0". Mixing marked and unmarked tensors is the error that a real
card gives, so that a device forgotten somewhere is found where there is no card.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

CARD = torch.device("cuda", 0)
T = torch.Tensor
# May mix: they move data, or are told positions.
FREE = {
    torch._has_compatible_shallow_copy_type,
    T.view_as,
    T.expand_as,
    T.copy_,
    T.to,
    T.cpu,
    T.data.__set__,
    T.grad.__set__,
    T.__deepcopy__,
    T.device.__get__,
}
INDEXED = {T.__getitem__, T.__setitem__}
# Of these even numbers without axes must be on one device.
STRICT = {torch.stack, torch.cat, torch.hstack, torch.vstack, torch.linalg.vector_norm}
OFF = {T.numpy, T.__array__}


def tensors(value):
    if isinstance(value, T):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


class Watch(TorchFunctionMode):
    def __init__(self):
        self.on_card = WeakTensorKeyDictionary()
        # What is there already lies on the CPU; of what C++ makes, unseen, nothing is known.
        self.mark([o for o in gc.get_objects() if issubclass(type(o), T)], False)

    def mark(self, value, on_card):
        for tensor in tensors(value):
            self.on_card[tensor] = on_card

    def check(self, func, args, kwargs):
        if func in FREE or getattr(func, "__name__", "") == "__get__":
            return
        given = args[:1] + args[2:] if func in INDEXED else (args, kwargs)
        every = [(t, self.on_card.get(t)) for t in tensors(given)]
        known = [(t, on) for t, on in every if on is not None]
        axes = {on for t, on in known if t.ndim}
        numbers = {on for t, on in known if not t.ndim}
        mixed = len(axes) == 2 or (axes == {False} and True in numbers)
        mixed = mixed or (func in STRICT and len(axes | numbers) == 2)
        if func in INDEXED and not mixed and self.on_card.get(args[0]) is False:
            mixed = any(self.on_card.get(t) for t in tensors(args[1]))
        if mixed:
            raise RuntimeError(f"Expected all tensors to be on the same device: {func}")
        if func in OFF and True in axes | numbers:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == T.device.__get__:
            return CARD if self.on_card.get(args[0]) else func(*args)
        if func == T.is_cuda.__get__:
            return bool(self.on_card.get(args[0]))
        if func is torch._C._nn._parse_to:
            place, *rest = func(*args, **kwargs)
            like = args and isinstance(args[0], T) and self.on_card.get(args[0])
            return (CARD if like else place, *rest)
        self.check(func, args, kwargs)
        before = [self.on_card.get(t) for t in tensors((args, kwargs))]
        target = None
        if kwargs.get("device") is not None:
            target = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = "cpu"
        if func is T.to:
            args = list(args)
            for i, value in enumerate(args[1:], 1):
                if isinstance(value, (str, torch.device)):
                    target = torch.device(value).type == "cuda"
                    args[i] = "cpu"
                elif isinstance(value, T):
                    target = self.on_card.get(value)
                    args[i] = value.dtype
            args = tuple(args)
        if func is T.cpu:
            target = False
        maker = kwargs.get("generator")
        if maker is not None and (target or True in before):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        found = func(*args, **kwargs)
        if func == T.data.__set__:
            self.on_card[args[0]] = self.on_card.get(args[1])
            return found
        if func in (T.to, T.cpu) and found is args[0] and target != before[0]:
            found = found.clone() if found.requires_grad else found.detach().clone()
        if target is None and before:
            target = True if True in before else (None if None in before else False)
        elif target is None:
            target = False
        if target is not None:
            self.mark(found, target)
        return found


MAKE, AUTOCAST, LOAD = torch.nn.Parameter.__new__, torch.autocast, torch.load


@contextmanager
def card():
    watch = Watch()

    def parameter(cls, data=None, requires_grad=True):
        made = MAKE(cls, data, requires_grad)
        watch.mark(made, data is not None and watch.on_card.get(data))
        return made

    def load(file, *, map_location="cuda", **settings):
        found = LOAD(file, map_location="cpu", **settings)
        watch.mark(found, torch.device(map_location).type == "cuda")
        return found

    with (
        mock.patch("torch.load", load),
        mock.patch("torch.cuda.mem_get_info", return_value=(int(4e9), int(4e9))),
        mock.patch("torch.cuda.get_device_name", return_value="pretended"),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.synchronize", return_value=None),
        mock.patch("bayesgen.solvers.planning._rate", return_value=1e12),
        mock.patch("torch.autocast", lambda _, dtype: AUTOCAST("cpu", dtype)),
        mock.patch.object(torch.nn.Parameter, "__new__", parameter),
        watch,
    ):
        yield
