"""Intervals and tests are those of SciPy, of a formula, or computed by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from evaluation.statistics import holm, mcnemar, wilson_proportion


@pytest.mark.parametrize("total", [1, 7, 200, 100_000])
@pytest.mark.parametrize("part", [0, 0.3, 1])
def test_intervals_are_wilsons(part, total):
    hits = round(part * total)
    figure = wilson_proportion(np.arange(total) < hits, "no images")
    p, z = hits / total, 1.959963984540054
    centre = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    assert figure.value == p
    assert (figure.low, figure.high) == pytest.approx((centre - half, centre + half), abs=1e-12)
    scipys = binomtest(hits, total).proportion_ci(method="wilson")
    assert (figure.low, figure.high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_findings_of_one_image_do_not_count_as_independent():
    correct = np.arange(11) < 7
    assert wilson_proportion(
        np.repeat(correct[:, None], 14, axis=1), "no images"
    ) == wilson_proportion(correct, "no images")


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (0, 1), (5, 0), (9, 2), (2, 9), (130, 70)])
def test_mcnemar_against_summed_binomial_coefficients(lost, gained):
    total = lost + gained
    tail = sum(math.comb(total, k) for k in range(lost, total + 1)) / 2**total
    assert mcnemar(lost, gained) == pytest.approx(tail)


def test_holm_by_hand():
    # sorted 0.005 0.01 0.03 0.04, times 4 3 2 1: 0.02 0.03 0.06 0.04, and no step may decrease
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
