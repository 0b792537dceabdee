"""What people ask a running hub through its local socket: one function per request, plain values in and out."""
