"""What a fleet of unequal boards learns when its model is split: ranks by importance against HetLoRA and others."""
