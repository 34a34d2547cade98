"""``python -m shiftbench`` is the ``shiftbench`` command."""

import sys

from shiftbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
