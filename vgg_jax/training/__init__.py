"""Training: the state, the pure step, data parallelism, the loop of a stage and the chain of stages (sec. 3.1)."""

import os

# XLA's CPU backend splits sums by the number of its threads, which is the larger of NPROC (else the cores) and the
# devices, read when jax first looks for devices. A fixed number of threads gives a process with 1 CPU device the same
# bits as one with 8.
os.environ.setdefault("NPROC", str(max(8, os.cpu_count() or 1)))
