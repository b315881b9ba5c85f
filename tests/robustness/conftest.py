"""Settings of the property-based tests, and the data file that most tests here use."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "robustness",
    max_examples=60,
    deadline=20_000,  # milliseconds per example; only a hang takes as long
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("robustness")


@pytest.fixture
def grey(data_files):
    return data_files["grey"]
