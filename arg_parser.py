"""Every flag of every script: the one module that scripts take their flags from.

The groups of flags are in flags/. A script adds the groups that it uses, and no others. Flags keep
the names that users of SalUn's code know. An invalid value is refused in one line, with exit code
2, before torch is imported.
"""

from flags.data import data_flags, input_size_flag, load_dataset_arguments, window_flags
from flags.evaluation import attack_flags, evaluation_flags, measures_flag, prediction_flags
from flags.model import base_models_flags, open_model_arguments, trained_model_flags
from flags.parser import command_line, make_parser
from flags.request import (
    read_request,
    request_arguments,
    request_flags,
    request_for_model,
)
from flags.running import device_flags, overwrite_flag, resume_flag
from flags.training import DEFAULT_LR, seeds_flag, shards_flag, training_flags
from flags.unlearning import (
    MASK_THRESH,
    compare_flags,
    mask_flag,
    methods_flag,
    unlearning_flags,
    unlearning_settings,
)

__all__ = [
    "DEFAULT_LR",
    "MASK_THRESH",
    "attack_flags",
    "base_models_flags",
    "command_line",
    "compare_flags",
    "data_flags",
    "device_flags",
    "evaluation_flags",
    "input_size_flag",
    "load_dataset_arguments",
    "make_parser",
    "mask_flag",
    "measures_flag",
    "methods_flag",
    "open_model_arguments",
    "overwrite_flag",
    "prediction_flags",
    "read_request",
    "request_arguments",
    "request_flags",
    "request_for_model",
    "resume_flag",
    "seeds_flag",
    "shards_flag",
    "trained_model_flags",
    "training_flags",
    "unlearning_flags",
    "unlearning_settings",
    "window_flags",
]
