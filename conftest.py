"""Registers the plugin; ends a test that hangs after five minutes, where pytest-timeout is installed."""

import pytest

pytest_plugins = ["harness.plugin"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Not in the settings: pytest refuses settings of a plugin that a core install does not have."""
    if config.pluginmanager.hasplugin("timeout") and config.option.timeout is None:
        config.option.timeout = 300
