"""Helpers of a hub: several processes take updates in, the hub alone counts them."""
