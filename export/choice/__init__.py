"""Which format each weight gets: probed, measured, chosen within bytes and time, assigned to boards."""
