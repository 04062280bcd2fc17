"""Sweeps: one training for each point of a product of flag values, here or as a Slurm job array, and their table."""
