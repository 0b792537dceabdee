"""How a board becomes a device of a fleet, and stays one."""
