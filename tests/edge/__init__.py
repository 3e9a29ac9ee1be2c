"""Each proxy with the configuration that `manor-mcp edge` makes, between real peers."""
