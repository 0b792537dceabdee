"""The doors that models come in by, one per kind of source; each returns a `Captured`."""
