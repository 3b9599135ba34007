"""A verification-first harness for fine-tuning jobs on rented GPUs.

Facts -> checks -> verdicts -> events -> the next step. The rooms and the order
in which they may import each other are described in docs/how-it-works.md and
held by tests/unit/test_architecture.py.
"""

__version__ = "0.1.0"
