"""Tolerances of the tests, in one place."""

import numpy as np

ANOTHER_PROGRAM = 1e-4  # of the largest value: another implementation's order of float32 sums
SAME_PROGRAM = 1e-5  # of the largest value: our own program on padded or regrouped inputs
BFLOAT16 = 2.0**-8  # a rounding to bfloat16, of the value that is rounded


def assert_close(ours, theirs, of_largest):
    """Equal within a fraction of the largest value of the reference."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error < of_largest, f"off by {error:.2g} of the largest value"
