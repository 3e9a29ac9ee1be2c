"""The command line ``manor-mcp``, its doctor and its demo."""
