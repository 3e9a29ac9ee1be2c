"""What a server says, fit to be shown: it has seen our tokens, and may say them back."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = re.compile(r"eyJ[\w-]+\.[\w-]*(?:\.[\w-]*)?", re.ASCII)
"""A JWT, whichever of those that were sent, and the better part of one."""


def shown(text: str, limit: int = 300) -> str:
    """Return `text` without tokens, then cut: a token's beginning is less easy to tell."""
    return _TOKEN.sub("<token>", text)[:limit]
