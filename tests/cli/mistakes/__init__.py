"""Mistakes, by where they are made; test_mistakes.py makes them."""
