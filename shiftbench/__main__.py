"""``python -m shiftbench`` is the ``shiftbench`` command."""

import sys
from pathlib import Path

# ``python -m`` searches the current folder first. Nothing is imported from there unless the user names it.
if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False) and Path(sys.path[0] or ".") == Path.cwd():
    del sys.path[0]

from shiftbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
