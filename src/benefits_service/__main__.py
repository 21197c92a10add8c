"""``python -m benefits_service`` runs the ``benefits`` command."""

import os
import sys

# First on the path is the working folder. A file in it, such as socket.py, must not be imported instead of the module.
if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120 - see above
    del sys.path[0]

from benefits_service import main

main()
