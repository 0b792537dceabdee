"""What bundles hold, told from their manifests: facts, words, a page with pictures."""
