"""Keys: where they come from, and the tokens that they sign."""
