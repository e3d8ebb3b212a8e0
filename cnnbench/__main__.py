"""`python -m cnnbench`."""

import sys

from cnnbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
