"""What tests of the report's pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser, opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened() as found:
        yield found
