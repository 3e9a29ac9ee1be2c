"""The demo: three real servers, every adapter, and a table of what the servers saw."""
