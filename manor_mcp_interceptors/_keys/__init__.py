"""Keys: their sources, their form, and the tokens that they sign."""
