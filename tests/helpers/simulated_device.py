"""Devices other than the CPU whose synchronizations with it are counted: simulated, and a GPU.

The simulated device is made of torch's meta tensors, so that tests need no GPU to find code that
mixes tensors of two devices or waits for values.
"""

import warnings

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
COMPOSITE = "CompositeImplicitAutograd"  # operations that consist of others on every device


class GpuSyncCounter:
    """Appends to `syncs`, within the block, the place of each synchronization with the GPU."""

    device = torch.device("cuda")

    def __init__(self):
        self.syncs = []
        self._warnings = warnings.catch_warnings(record=True)

    def __enter__(self):
        self._caught = self._warnings.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        return self

    def __exit__(self, *error):
        torch.cuda.set_sync_debug_mode("default")
        self._warnings.__exit__(*error)
        for each in self._caught:
            if "synchronizing CUDA operation" in str(each.message):
                self.syncs.append(f"{each.filename}:{each.lineno}")


class SimulatedDevice(TorchDispatchMode):
    """Meta tensors within the block behave like those of a GPU.

    What a GPU refuses raises an error: an operation on its tensors and the CPU's, and random
    numbers on it from a generator of the CPU. An operation that makes the CPU wait for a GPU
    (reading values of its tensors, and blocking copies to it) returns ones and appends its name to
    `syncs`. Other threads are not observed, nor tensors made from Python's numbers on the device.
    """

    device = torch.device("meta")

    def __init__(self):
        super().__init__()
        self.syncs = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), COMPOSITE):
            with self:  # inference mode dispatches these as a whole
                return function.decompose(*args, **kwargs)
        if _is_blocking_copy(function, args, kwargs):
            self.syncs.append(f"{function} to the device")
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if first is not None and first.is_meta:
            if function is aten._local_scalar_dense.default:
                return self._synced(function, torch.ones((), dtype=first.dtype).item())
            if function is aten.equal.default:
                return self._synced(function, True)
            if function is aten._unique2.default:
                return self._synced(function, (first.new_ones(1, dtype=torch.int64),) * 3)
            if function is aten._to_copy.default and _goes_to_cpu(kwargs):
                dtype = kwargs.get("dtype") or first.dtype
                return self._synced(function, torch.ones(first.shape, dtype=dtype))
            if function in INDEXED:
                args = (first, self._resolve_indices(args[1]), *args[2:])
        if function is aten.copy_.default and args[1].is_meta and not first.is_meta:
            return self._synced(function, first.fill_(1))
        result = function(*args, **kwargs)
        self._check_devices(function, args, kwargs, result)
        return result

    def _synced(self, function, value):
        self.syncs.append(str(function))
        return value

    def _resolve_indices(self, indices):
        """Replace masks, whose true elements a GPU has to count, by as many indices as elements."""
        resolved = []
        for index in indices:
            if index is not None and not index.is_meta:
                self.syncs.append("index on the CPU")
            if index is None or index.dtype != torch.bool:
                resolved.append(index)
                continue
            self.syncs.append("index by a mask")
            resolved += [index.new_zeros(index.numel(), dtype=torch.int64) for _ in index.shape]
        return resolved

    def _check_devices(self, function, args, kwargs, result):
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


def _is_blocking_copy(function, args, kwargs):
    """Return whether the operation copies values from the CPU to the device and waits for it."""
    if function is aten.copy_.default:
        target, source = args[:2]
        return target.is_meta and not source.is_meta and source.ndim and not (*args, False)[2]
    if function is not aten._to_copy.default or args[0].is_meta or kwargs.get("non_blocking"):
        return False
    return torch.device(kwargs.get("device") or "cpu") == SimulatedDevice.device


def _goes_to_cpu(kwargs):
    return kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"
