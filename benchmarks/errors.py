"""What ends a benchmark."""


class BenchmarkError(Exception):
    """Something is not as a benchmark needs it. The text is for whoever ran it."""
