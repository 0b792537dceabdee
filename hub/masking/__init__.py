"""Rounds of which the hub learns the sum alone (docs/privacy.md, "Secure aggregation")."""
