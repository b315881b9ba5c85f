"""CUDA graphs: what the passes of a network ask of a GPU is recorded once, and then played again.

A network on small images asks for hundreds of kernels at each step that are each done before the
next is asked for. A graph asks for all of them at once; they are the same, and so are their
results.
"""

import gc
import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext

import torch
from torch.func import functional_call

from utils.runtime import processes
from utils.train.randomness import get_rng_state, set_rng_state

GRAPHS_ON = "cuda"
EAGER_BATCHES = 10  # batches of a kind: to record takes about as long as as many save
MAX_GRAPHS = 2  # of a run: whole batches, and the rest of an epoch
PASSES_OF_ROOM = 3  # memory that has to be free, in passes: a graph's own, one beside it, and more

_recordings = {}  # by model, while it learns; a copy of a model has none


@contextmanager
def cuda_graphs(model):
    """Within the block `graphed_forward` of this model may replay; its memory is freed after it."""
    if processes.world_size() > 1 or model.compiled_batch_size is not None:
        yield
        return
    recordings = _recordings[model] = _Recordings(model)
    try:
        yield
    finally:
        del _recordings[model]
        recordings.free()


def pause_capture(model, paused):
    """Whether nothing is to be recorded for now, because other threads ask things of the GPU."""
    if model in _recordings:
        _recordings[model].paused = paused


def graphed_forward(model, images):
    """model(images), whose way back is gone before the next pass of this kind, or never.

    A graph has one place for what a pass leaves to its way back.
    """
    recordings = _recordings.get(model)
    passes = recordings.of(images) if recordings and images.device.type == GRAPHS_ON else None
    return passes(images) if passes else model(images)


class _Recordings:
    """Graphs of one model's passes, each of a kind: shape of the batch, and what layers do."""

    def __init__(self, model):
        self.model, self.paused = model, False
        self.modules, self.weights = list(model.modules()), list(model.parameters())
        self.passes, self.batches = {}, Counter()
        self.most_kinds, self.pool = MAX_GRAPHS, None

    def of(self, images):
        """The function of a graph for a batch like `images`, None if there is none.

        None in evaluation mode: the passes are few there, and to record them has failed.
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
        if kind not in self.passes:
            self.batches[kind] += 1
            too_few = self.batches[kind] <= EAGER_BATCHES
            if too_few or self.paused or len(self.passes) >= self.most_kinds:
                return None
            self.passes[kind] = self._recorded(images)
        return self.passes.get(kind)

    def free(self):
        """Graphs refer to themselves, and the gradients lie in their memory."""
        if self.passes:
            self.passes.clear()
            self.model.zero_grad(set_to_none=True)
            gc.collect()
            if GRAPHS_ON == "cuda":  # the way that torch's notes on CUDA give, there is no other
                torch._C._cuda_clearCublasWorkspaces()  # one for each stream that was recorded on
            torch.cuda.empty_cache()

    def _recorded(self, images):
        """To record takes passes that count for nothing: what they change is put back."""
        model, device = self.model, images.device
        if not _has_room(device):
            return None
        randomness, stream = get_rng_state(device), _current_stream(device)
        before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.device(device) if stream else nullcontext():
                return record(model, images, self.pool)
        except (RuntimeError, UserWarning):  # too little memory, or layers that wait for the GPU
            _leave_recording(device, stream)
            # graphs from before would draw from random numbers that are nobody's now
            self.passes, self.most_kinds = {}, 0
            return None
        finally:
            for buffer, values in before:
                buffer.copy_(values)
            set_rng_state(device, randomness)


def record(model, images, pool):
    """A function that does what model(images) does, on batches like `images` (B, C, H, W) alone.

    pool: memory for all graphs of which one is at work at a time. Gradients by the weights come
    out of the graph as its outputs do, so that they are added up as ever.
    """
    names, weights = zip(*model.named_parameters(), strict=True)
    # the same memory under other tensors: what the graph keeps must not be tied to the weights'
    # own place in autograd, which belongs to the stream that learns
    others = [each.detach().requires_grad_(each.requires_grad) for each in weights]

    def passes(images, *weights):
        return functional_call(model, dict(zip(names, weights, strict=True)), (images,))

    with warnings.catch_warnings():
        # of streams that differ in passes that count for nothing
        warnings.filterwarnings("ignore", "The AccumulateGrad node's stream")
        warnings.filterwarnings("error", "The CUDA Graph is empty")
        graphed = torch.cuda.make_graphed_callables(
            passes, (images.clone(), *others), allow_unused_input=True, pool=pool
        )
    # a copy, because the next pass writes to the same place
    return lambda images: graphed(images, *weights).clone()


def _has_room(device):
    """Whether a graph's memory leaves enough for passes beside it, going by the largest so far."""
    if device.type != "cuda":
        return True
    held = torch.cuda.memory_allocated(device)
    a_pass = torch.cuda.max_memory_allocated(device) - held
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - held
    return free > PASSES_OF_ROOM * a_pass


def _current_stream(device):
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def _leave_recording(device, stream):
    """A graph that came to nothing still has the stream of the work, and the random numbers."""
    if stream is not None:
        torch.cuda.set_stream(stream)
        fresh = torch.Generator(device)
        torch.cuda.default_generators[device.index].graphsafe_set_state(fresh.graphsafe_get_state())
