"""Devices that are not the CPU, whose waits are counted: one of shapes alone, and a GPU.

The former is made of torch's meta tensors, so that no GPU is needed to see whether code for one
mixes up tensors of two devices, or waits for values.
"""

import warnings

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
COMPOSITE = "CompositeImplicitAutograd"  # operations that are made of others on every device


class GpuSyncCounter:
    """Within the block what makes the CPU wait for the GPU is added to `waits`, as its place."""

    device = torch.device("cuda")

    def __init__(self):
        self.waits = []
        self._warnings = warnings.catch_warnings(record=True)

    def __enter__(self):
        self._seen = self._warnings.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(self, *error):
        torch.cuda.set_sync_debug_mode("default")
        self._warnings.__exit__(*error)
        for each in self._seen:
            if "synchronizing CUDA operation" in str(each.message):
                self.waits.append(f"{each.filename}:{each.lineno}")


class SimulatedDevice(TorchDispatchMode):
    """Meta tensors within the block behave as those of a GPU do.

    What a GPU refuses raises an error: an operation on its tensors and the CPU's, and random
    numbers drawn there by a generator of the CPU. What makes the CPU wait for a GPU, values of its
    tensors and copies to it but those that are told not to be waited for, is answered with ones
    and added to `waits`, as the name of the operation. What other threads do is not seen, nor
    tensors that are made of Python's numbers there.
    """

    device = torch.device("meta")

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), COMPOSITE):
            with self:  # inference mode asks for these whole
                return function.decompose(*args, **kwargs)
        if _waits_for_copy(function, args, kwargs):
            self.waits.append(f"{function} to the device")
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
            if function in INDEXED:
                args = (first, self._counted(args[1]), *args[2:])
        if function is aten.copy_.default and args[1].is_meta and not first.is_meta:
            return self._waited(function, first.fill_(1))
        result = function(*args, **kwargs)
        self._check(function, args, kwargs, result)
        return result

    def _waited(self, function, value):
        self.waits.append(str(function))
        return value

    def _counted(self, indices):
        """Of a mask a GPU has to count the places first; here it has all of them."""
        found = []
        for index in indices:
            if index is not None and not index.is_meta:
                self.waits.append("index of the CPU's")
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
            if isinstance(each, list | tuple) and function not in INDEXED:
                tensors += [one for one in each if isinstance(one, torch.Tensor)]
        devices = {each.device.type for each in tensors if each.ndim}
        if len(devices) > 1:
            raise RuntimeError(f"{function}: tensors on {' and '.join(sorted(devices))}")
        generator = kwargs.get("generator")
        if isinstance(result, torch.Tensor) and generator is not None:
            assert generator.device == result.device, f"{function}: a generator of another device"


def _waits_for_copy(function, args, kwargs):
    """Whether values of the CPU's go elsewhere by a copy that is waited for."""
    if function is aten.copy_.default:
        there, source = args[:2]
        return there.is_meta and not source.is_meta and source.ndim and not (*args, False)[2]
    if function is not aten._to_copy.default or args[0].is_meta or kwargs.get("non_blocking"):
        return False
    return torch.device(kwargs.get("device") or "cpu") == SimulatedDevice.device


def _goes_to_cpu(kwargs):
    return kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
