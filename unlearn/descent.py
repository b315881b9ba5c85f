"""The loop that the gradient methods share; they differ in images, labels, sign and mode."""

import torch
from tqdm import tqdm

from utils.errors import NotFiniteError, UserError
from utils.prediction import predict
from utils.training import SMALLEST_SET, TOO_FEW, count_steps, make_optimizer, train_epoch


def descend(model, epoch_set, loss_function, config, *, update_statistics=True):
    """Minimise `loss_function` over `epoch_set(generator)`, called afresh each epoch.

    epoch_set: torch.Generator (CPU) -> ImageSet. loss_function: (logits, labels) -> scalar.
    update_statistics: False keeps the running means of batch normalisation, and dropout off, as
    in evaluation. Weights outside `config.mask` stay as they are. Returns the model.
    """
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = make_optimizer(model, config.optimizer, config.lr, config.weight_decay)
    if config.mask:
        config.mask.protect(model, optimizer)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)  # layers such as dropout draw from the global state
        with tqdm(unit="batch", disable=None if config.show else True) as bar:
            for epoch in range(config.epochs):
                image_set = epoch_set(generator)
                if update_statistics and len(image_set) < SMALLEST_SET:
                    raise UserError(TOO_FEW.format(len(image_set)))
                bar.total = config.epochs * count_steps(len(image_set), config.batch_size)
                model.train(update_statistics)
                loss, _ = train_epoch(
                    model,
                    image_set,
                    loss_function,
                    optimizer,
                    batch_size=config.batch_size,
                    generator=generator,
                    bar=bar,
                )
                if config.show:
                    tqdm.write(f"epoch {epoch + 1}/{config.epochs}: loss {loss:.4f}")
    _check_finite(model, image_set, config.batch_size)
    return model.eval()


def _check_finite(model, image_set, batch_size):
    """train_epoch sees each loss before its step, so nothing has looked at the last step yet."""
    some = image_set.subset(slice(0, batch_size))
    if not predict(model, some).isfinite().all():
        raise NotFiniteError("after the last step")
