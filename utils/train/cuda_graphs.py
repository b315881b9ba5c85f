"""CUDA graphs: the kernels of a training pass are captured once and then replayed.

A network on small images launches hundreds of kernels per step that each finish before the next is
launched. A graph launches all of them at once; the kernels are the same, and so are their results.
"""

import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.func import functional_call

from utils.runtime import processes
from utils.train.randomness import get_rng_state, set_rng_state

GRAPH_DEVICE = "cuda"
EAGER_BATCHES = 10  # of a shape before it is captured: a capture takes about as long as they save
MAX_GRAPHS = 2  # per run: full batches, and the last batch of an epoch
MIN_FREE_PASSES = 3  # free memory in passes: the graph's own, an eager pass, and a margin

_captures = {}  # by model, during training; a copy of a model has none


@contextmanager
def cuda_graphs(model: torch.nn.Module) -> Iterator[None]:
    """Let `graphed_forward` of this model use graphs in the block, and free their memory after it.

    No effect with several processes or for a compiled model.
    """
    if processes.world_size() > 1 or model.compiled_batch_size is not None:
        yield
        return
    captures = _captures[model] = _Captures(model)
    try:
        yield
    finally:
        del _captures[model]
        captures.free()


def pause_capture(model: torch.nn.Module, paused: bool) -> None:
    """Set whether capturing is paused, which it must be while other threads use the GPU."""
    if model in _captures:
        _captures[model].paused = paused


def graphed_forward(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return model(images), replayed from a graph if there is one.

    The backward pass must be finished, or dropped, before the next forward pass of this shape: a
    graph has one place for the activations that it saves.
    """
    captures = _captures.get(model)
    replay = captures.find(images) if captures and images.device.type == GRAPH_DEVICE else None
    return replay(images) if replay else model(images)


class _Captures:
    """The graphs of one model, by the shape of the batch and the state of the layers."""

    def __init__(self, model):
        self.model, self.paused = model, False
        self.modules, self.weights = list(model.modules()), list(model.parameters())
        self.replays, self.batches = {}, Counter()
        self.max_graphs, self.pool = MAX_GRAPHS, None

    def find(self, images):
        """Return the function that replays a graph for a batch like `images`, None without one.

        None in evaluation mode: it has few passes, and capturing them has failed.
        """
        if not self.model.training:
            return None
        kind = (
            images.shape,
            images.dtype,
            self.model.use_bf16,
            *[module.training for module in self.modules],
            *[weights.requires_grad for weights in self.weights],
        )
        if kind not in self.replays:
            self.batches[kind] += 1
            too_few = self.batches[kind] <= EAGER_BATCHES
            if too_few or self.paused or len(self.replays) >= self.max_graphs:
                return None
            self.replays[kind] = self._capture(images)
        return self.replays.get(kind)

    def free(self):
        """Free the graphs, which refer to themselves, and the gradients in their memory."""
        if self.replays:
            self.replays.clear()
            self.model.zero_grad(set_to_none=True)
            gc.collect()
            if GRAPH_DEVICE == "cuda":  # torch's notes on CUDA give this way; there is no other
                torch._C._cuda_clearCublasWorkspaces()  # one for each stream that was captured on
            torch.cuda.empty_cache()

    def _capture(self, images):
        """Capture a graph; buffers and random state are restored after the warm-up passes."""
        model, device = self.model, images.device
        if not _has_room(device):
            return None
        rng_state, stream = get_rng_state(device), _current_stream(device)
        before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.device(device) if stream else nullcontext():
                return capture_graph(model, images, self.pool)
        except (RuntimeError, UserWarning):  # too little memory, or layers that wait for the GPU
            _leave_capture(device, stream)
            # the earlier graphs would use a random generator that is not registered any more
            self.replays, self.max_graphs = {}, 0
            return None
        finally:
            for buffer, values in before:
                buffer.copy_(values)
            set_rng_state(device, rng_state)


def capture_graph(
    model: torch.nn.Module, images: torch.Tensor, pool: tuple[int, int]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that computes model(images) for batches of the shape of `images` only.

    images: (B, C, H, W). pool: memory for all graphs of which one runs at a time. Gradients of
    the weights are outputs of the graph, so that autograd accumulates them as usual.
    """
    names, weights = zip(*model.named_parameters(), strict=True)
    # aliases of the weights: the graph must not be tied to the weights' own autograd nodes, which
    # belong to the stream that trains
    aliases = [each.detach().requires_grad_(each.requires_grad) for each in weights]

    def forward(images, *weights):
        return functional_call(model, dict(zip(names, weights, strict=True)), (images,))

    with warnings.catch_warnings():
        # of streams that differ in the warm-up passes, whose gradients are not used
        warnings.filterwarnings("ignore", "The AccumulateGrad node's stream")
        warnings.filterwarnings("error", "The CUDA Graph is empty")
        graphed = torch.cuda.make_graphed_callables(
            forward, (images.clone(), *aliases), allow_unused_input=True, pool=pool
        )
    # a copy, because the next pass writes to the same memory
    return lambda images: graphed(images, *weights).clone()


def _has_room(device):
    """Return whether enough memory is free for a graph, judged by the largest pass so far."""
    if device.type != "cuda":
        return True
    allocated = torch.cuda.memory_allocated(device)
    per_pass = torch.cuda.max_memory_allocated(device) - allocated
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - allocated
    return free > MIN_FREE_PASSES * per_pass


def _current_stream(device):
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def _leave_capture(device, stream):
    """Restore the stream and the random generator, which a failed capture keeps."""
    if stream is not None:
        torch.cuda.set_stream(stream)
        generator = torch.Generator(device)
        torch.cuda.default_generators[device.index].graphsafe_set_state(
            generator.graphsafe_get_state()
        )
