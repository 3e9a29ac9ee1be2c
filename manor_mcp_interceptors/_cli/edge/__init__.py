"""``manor-mcp edge``: configurations of proxies that verify tokens, made from the settings."""
