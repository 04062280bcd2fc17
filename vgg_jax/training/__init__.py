"""Training: the state, the pure step, data parallelism, the loop of a stage and the chain of stages (sec. 3.1)."""
