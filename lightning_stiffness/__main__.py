"""The command ``lightning-stiffness``, also as ``python -m lightning_stiffness``."""

import sys

from lightning_stiffness.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
