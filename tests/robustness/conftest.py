"""Settings of the property-based tests."""

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
