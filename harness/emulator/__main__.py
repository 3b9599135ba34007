"""``python -m harness.emulator``."""

import sys

from harness.emulator.main import main

sys.exit(main())
