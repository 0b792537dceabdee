"""Aggregation does not know where its ledger lies: one kind of database is enough here."""

from __future__ import annotations

import pytest


@pytest.fixture
def backend() -> str:
    """In place of all kinds."""
    return "sqlite"
