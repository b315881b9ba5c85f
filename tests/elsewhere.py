"""A device that is not the CPU, made of torch's meta tensors: shapes without values.

No GPU is needed to see whether code for one mixes up tensors of two devices, or waits for values.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ELSEWHERE = torch.device("meta")
aten = torch.ops.aten
COMPOSITE = "CompositeImplicitAutograd"  # operations that are made of others on every device


class Elsewhere(TorchDispatchMode):
    """Meta tensors within the block behave as those of a GPU do.

    What a GPU refuses raises an error: an operation on its tensors and the CPU's, and random
    numbers drawn there by a generator of the CPU. What makes the CPU wait for a GPU is answered
    with ones and added to `waits`, as the name of the operation.
    """

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), COMPOSITE):
            with self:  # inference mode asks for these whole
                return function.decompose(*args, **kwargs)
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if first is not None and first.is_meta:
            if function is aten._local_scalar_dense.default:
                return self._waited(function, torch.ones((), dtype=first.dtype).item())
            if function is aten.equal.default:
                return self._waited(function, True)
            if function is aten._unique2.default:
                return self._waited(function, (first.new_ones(1, dtype=torch.int64),) * 3)
            if function is aten._to_copy.default and _goes_to_cpu(kwargs):
                dtype = kwargs.get("dtype") or first.dtype
                return self._waited(function, torch.ones(first.shape, dtype=dtype))
            if function is aten.index.Tensor:
                args = (first, self._without_bools(args[1]))
        if function is aten.copy_.default and args[1].is_meta and not first.is_meta:
            return self._waited(function, first.fill_(1))
        result = function(*args, **kwargs)
        self._check(function, args, kwargs, result)
        return result

    def _waited(self, function, value):
        self.waits.append(str(function))
        return value

    def _without_bools(self, indices):
        """Of a mask a GPU has to count the places first; here it has all of them."""
        found = []
        for index in indices:
            if index is None or index.dtype != torch.bool:
                found.append(index)
                continue
            self.waits.append("index by a mask")
            found += [index.new_zeros(index.numel(), dtype=torch.int64) for _ in index.shape]
        return found

    def _check(self, function, args, kwargs, result):
        if function is aten.copy_.default:
            return
        tensors = [each for each in args if isinstance(each, torch.Tensor)]
        for each in args:
            if isinstance(each, (list, tuple)) and function is not aten.index.Tensor:
                tensors += [one for one in each if isinstance(one, torch.Tensor)]
        devices = {each.device.type for each in tensors if each.ndim}
        if len(devices) > 1:
            raise RuntimeError(f"{function}: tensors on {' and '.join(sorted(devices))}")
        generator = kwargs.get("generator")
        if isinstance(result, torch.Tensor) and generator is not None:
            assert generator.device == result.device, f"{function}: a generator of another device"


def _goes_to_cpu(kwargs):
    return kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
