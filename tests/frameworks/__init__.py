"""Each agent framework with its newest release, against a server that verifies tokens."""
