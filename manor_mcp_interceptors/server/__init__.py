"""The inbound door: accept or refuse a token."""
