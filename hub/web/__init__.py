"""What the hub serves over HTTPS: claims, renewals, bundles."""
