"""How the tool speaks: progress, tables, exit codes, the root of all errors, the report page."""
