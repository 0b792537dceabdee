"""Models of many kinds with random weights, made offline: what a user may bring, small enough for every run."""
