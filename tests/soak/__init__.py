"""A soak: every adapter calls strict servers while secret and flag change under the traffic."""
