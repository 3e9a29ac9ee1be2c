"""The outbound door: put a token on a call."""
