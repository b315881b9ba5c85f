"""The table of methods: a new method is a new file and a row here."""

from dataclasses import replace

from unlearn import (
    amnesiac,
    amun,
    bad_teacher,
    boundary_expanding,
    boundary_shrink,
    cf_k,
    delete,
    eu_k,
    fine_tune,
    fisher_forgetting,
    gradient_ascent,
    influence,
    l1_sparse,
    last_layers,
    loss_free_dampening,
    mu_mis,
    neg_grad_plus,
    neg_merge,
    random_label,
    retrain,
    scrub,
    sfron,
    synaptic_dampening,
    unsir,
)
from unlearn.config import BATCH_SIZE
from unlearn.method import Method
from utils.training import Recipe


def _recipe(epochs, lr, batch_size=BATCH_SIZE, **others):
    return Recipe(epochs, lr, batch_size, **others)


ONE_STEP = Recipe(epochs=0, lr=0.0, batch_size=BATCH_SIZE)
ROWS = [
    Method("Retrain", "Retrain", retrain.retrain, None, "the definition", follows_gradient=False),
    Method(
        "RL",
        "Random Labeling",
        random_label.random_label,
        _recipe(5, 0.01),
        "Golatkar et al., CVPR 2020",
    ),
    Method(
        "FT",
        "Fine Tuning",
        fine_tune.fine_tune,
        _recipe(5, 0.03),
        "Warnecke et al., NDSS 2023",
    ),
    Method(
        "GA",
        "Gradient Ascent",
        gradient_ascent.gradient_ascent,
        # Adam would follow a decay wherever the gradient is near zero
        _recipe(5, 3e-6, optimizer="adam", weight_decay=0.0),
        "Thudi et al., EuroS&P 2022",
    ),
    Method(
        "NegGradPlus",
        "NegGrad+",
        neg_grad_plus.neg_grad_plus,
        _recipe(5, 1e-5, optimizer="adam", weight_decay=0.0),
        "Kurmanji et al., NeurIPS 2023",
        options=neg_grad_plus.OPTIONS,
    ),
    Method(
        "L1_sparse",
        "L1-sparse fine tuning",
        l1_sparse.l1_sparse,
        _recipe(3, 0.03),
        "Jia et al., NeurIPS 2023",
        options=l1_sparse.OPTIONS,
    ),
    Method(
        "EU_k",
        "Exact unlearning of the last k layers",
        eu_k.exact_last_layers,
        _recipe(3, 0.03),
        "Goel et al., 2022",
        options=last_layers.OPTIONS,
        follows_gradient=False,
    ),
    Method(
        "CF_k",
        "Fine tuning of the last k layers",
        cf_k.fine_tune_last_layers,
        _recipe(3, 0.03),
        "Goel et al., 2022",
        options=last_layers.OPTIONS,
    ),
    Method(
        "Amnesiac",
        "Amnesiac relabelling",
        amnesiac.amnesiac,
        _recipe(3, 0.01),
        "Graves et al., AAAI 2021",
    ),
    Method(
        "BadTeacher",
        "Bad Teacher",
        bad_teacher.bad_teacher,
        _recipe(3, 3e-4, optimizer="adam"),
        "Chundawat et al., AAAI 2023",
        options=bad_teacher.OPTIONS,
    ),
    Method(
        "SCRUB_R",
        "SCRUB with Rewinding",
        scrub.scrub,
        # SGD hardly leaves the teacher, where the gradient of its divergence is zero
        _recipe(3, 5e-4, optimizer="adam"),
        "Kurmanji et al., NeurIPS 2023",
        options=scrub.OPTIONS,
    ),
    Method(
        "UNSIR",
        "Impair and Repair",
        unsir.unsir,
        _recipe(2, 0.01, optimizer="sgd"),
        "Tarun et al., TNNLS 2023",
        options=unsir.OPTIONS,
        one_label=True,
    ),
    Method(
        "DELETE",
        "Decoupled Distillation",
        delete.delete,
        # Adam as in GA: gradients are large at first, and near zero in the end
        _recipe(5, 1e-5, optimizer="adam", weight_decay=0.0),
        "Zhou et al., CVPR 2025",
        one_label=True,
    ),
    Method(
        "NegMerge",
        "Sign-Consensual Negation",
        neg_merge.neg_merge,
        # decay would make all signs agree
        _recipe(3, 0.01, weight_decay=0.0),
        "Kim et al., ICML 2025",
        options=neg_merge.OPTIONS,
        follows_gradient=False,
    ),
    Method(
        "IU",
        "Influence Unlearning",
        influence.influence_unlearning,
        ONE_STEP,
        "Izzo et al., AISTATS 2021",
        options=influence.OPTIONS,
        one_step=True,
    ),
    Method(
        "Fisher",
        "Fisher Forgetting",
        fisher_forgetting.fisher_forgetting,
        replace(ONE_STEP, batch_size=10),  # images whose gradients random signs keep apart
        "Golatkar et al., CVPR 2020",
        options=fisher_forgetting.OPTIONS,
        follows_gradient=False,
        one_step=True,
    ),
    Method(
        "SSD",
        "Selective Synaptic Dampening",
        synaptic_dampening.selective_synaptic_dampening,
        replace(ONE_STEP, batch_size=10),  # images whose gradients random signs keep apart
        "Foster et al., AAAI 2024",
        options=synaptic_dampening.OPTIONS,
        follows_gradient=False,
        one_step=True,
    ),
    Method(
        "LFSSD",
        "Loss-Free SSD",
        loss_free_dampening.loss_free_dampening,
        ONE_STEP,
        "Foster et al., ICLR 2024 Tiny Papers",
        options=loss_free_dampening.OPTIONS,
        follows_gradient=False,
        one_step=True,
    ),
    Method(
        "SFRon",
        "Saliency Forgetting in the Remain-preserving manifold",
        sfron.sfron,
        _recipe(2, 0.01),
        "Huang et al., NeurIPS 2024",
        options=sfron.OPTIONS,
    ),
    Method(
        "BoundaryShrink",
        "Boundary Shrink",
        boundary_shrink.boundary_shrink,
        _recipe(5, 3e-5, weight_decay=0.0),
        "Chen et al., CVPR 2023",
        options=boundary_shrink.OPTIONS,
        one_label=True,
    ),
    Method(
        "BoundaryExpanding",
        "Boundary Expanding",
        boundary_expanding.boundary_expanding,
        _recipe(5, 1e-4, weight_decay=0.0),
        "Chen et al., CVPR 2023",
        one_label=True,
    ),
    Method(
        "AMUN",
        "Adversarial Machine Unlearning",
        amun.amun,
        _recipe(3, 0.01),
        "Ebrahimpour-Boroojeny et al., ICML 2025",
        options=amun.OPTIONS,
        one_label=True,
    ),
    Method(
        "MUMis",
        "Minimising Input Sensitivity",
        mu_mis.mu_mis,
        _recipe(5, 3e-3, weight_decay=0.0),
        "Cheng et al., ICLR 2026",
        options=mu_mis.OPTIONS,
        one_label=True,
    ),
]
