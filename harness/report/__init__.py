"""The gold-standard checklist: what was verified, what it cost, and whether anything can be lost."""

from harness.report.building import build
from harness.report.model import Report
from harness.report.writing import Form, write

__all__ = ["Form", "Report", "build", "write"]
