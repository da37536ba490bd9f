"""Processes of a run: how they are started, on which devices, and under Slurm."""
