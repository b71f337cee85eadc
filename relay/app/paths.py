"""The paths under which clients look for the API: with ``/v1``, without it, and Azure's.

Source: the base addresses that clients are configured with: ``…/v1`` (openai-python, openai-node, Codex), none
(OpenAI-compatible tools that append ``/responses``), ``…/openai`` with ``?api-version=`` and ``…/openai/v1`` (Azure:
AzureOpenAI of both SDKs).
"""

from __future__ import annotations

import re
from typing import Final

_BASE: Final = re.compile(r"(?:/openai)?(?:/v1)?(?=/(?:responses|models|conversations)(?:/|\Z))")


def api_path(path: str) -> str:
    """``path`` without what stands before the API's own part, and without a slash at its end."""
    path = path.rstrip("/") or "/"
    base = _BASE.match(path)
    return path[base.end() :] if base is not None else path
