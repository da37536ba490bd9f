"""Weights in files: what kind of file it is, how it is read without running its code, whether it fits a network."""
