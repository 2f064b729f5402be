"""Where BIRD 1.6 is: `./run test` unpacks it there, as it cannot be installed beside BIRD 2."""

import sys
from pathlib import Path

PROGRAMS = Path(sys.prefix) / "bird-1.6" / "usr" / "sbin"
