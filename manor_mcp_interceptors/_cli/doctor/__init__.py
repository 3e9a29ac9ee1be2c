"""``manor-mcp doctor``: why does a call carry no token, or why does a server refuse it?"""
