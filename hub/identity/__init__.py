"""Who a board is: tokens with which it claims a name, certificates and their renewal."""
