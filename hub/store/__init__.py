"""What must survive: the ledger, the blobs, and copies of both."""
