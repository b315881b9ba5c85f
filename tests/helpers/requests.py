"""Deletion requests of every kind."""

from unlearn.request.request import ForgetRequest

LISTED = ForgetRequest((), (0, 5, 7, 11))


def requests_of(dataset):
    """Return requests for classes, fractions and listed images of a data set."""
    return [
        *(ForgetRequest((number,)) for number in range(4)),
        ForgetRequest((1, 3)),
        ForgetRequest.from_fraction(0.25, 1, None, dataset),
        ForgetRequest.from_fraction(0.5, 2, ["0", "2"], dataset),
        LISTED,
    ]
