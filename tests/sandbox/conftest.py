"""Puts dev/ on the path, and gives each test a sandbox of its own."""
import os
import sys

import pytest

DEV = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "dev")
sys.path.insert(0, os.path.normpath(DEV))


@pytest.fixture
def box():
    from sandbox import Sandbox

    with Sandbox() as running:
        yield running
