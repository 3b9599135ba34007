"""A verification-first harness for fine-tuning jobs on rented GPUs.

Facts -> checks -> verdicts -> events -> the next step. The rooms and the order
in which they may import each other are described in docs/how-it-works.md and
held by tests/unit/test_architecture.py.
"""

from pathlib import Path

__version__ = "0.1.0"

if not Path(__path__[0], "checks").is_dir():  # a clone: what is installed inside this folder stands beside it
    __path__.append(str(Path(__path__[0]).parent))
