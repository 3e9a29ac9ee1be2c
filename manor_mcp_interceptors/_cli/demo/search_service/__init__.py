"""Generated code of ``protos/manor/mcp/v1/search_service.proto``, which the demo's service speaks.

Do not edit it: ``python -m tests.regenerate_protos`` writes it anew, and a test compares it with
the ``.proto``. Services generate stubs of their own from the ``.proto``.
"""
