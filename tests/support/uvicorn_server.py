"""Serve an ASGI application with uvicorn, in a thread: ``with serve(app) as url``."""

from __future__ import annotations

from manor_mcp_interceptors._cli.demo.uvicorn_thread import serve

__all__ = ["serve"]
