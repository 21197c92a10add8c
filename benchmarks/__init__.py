"""How fast the service and the library are, beside the ceilings they are held against: ``make bench``. No tests."""

import sys
from pathlib import Path

# The launcher of a PostgreSQL server is there: tests and benchmarks share it.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
