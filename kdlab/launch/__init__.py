"""Processes of a run: who starts them, on which devices, and what Slurm says of them."""
