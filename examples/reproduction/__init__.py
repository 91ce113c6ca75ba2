"""The experiments of Fort et al. (arXiv:1901.09491v3), run again: see ``examples/reproduce.py``."""
