"""Errors of native Responses upstreams: HTTP answers, ``error`` events, failed Responses.

Source: responses-api.md §4.7-4.8, §6; translation.md §3.7, §5; pain.md 20-22.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from relay.errors import STREAM_CODES, RelayError
from relay.providers.failures import Said, classify, clean, refused, said, said_in
from relay.providers.openai_response import usage_with_details
from relay.responses.emitter import Voice
from relay.responses.tools import JSON

REPAIRS: Final[Mapping[str, re.Pattern[str]]] = {
    "stream_options": re.compile(r"stream_options|include_obfuscation"),
    "encrypted_content": re.compile(r"encrypted.content is not supported|reasoning\.encrypted_content", re.IGNORECASE),
}
"""Repair -> what an upstream's 400 or 422 says when ``build`` should leave out what the client did not ask for."""

SEALED: Final = "sealed"
"""The repair that leaves out the reasoning which the upstream cannot open."""
_UNSEALED: Final = re.compile(r"encrypted content\b.{0,400}?\b(?:could not be (?:verified|decrypted)|did not match)")
"""The words of ``invalid_encrypted_content`` where its code is missing (openai/openai-agents-python#2063)."""


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> RelayError:
    """An error answer as ours."""
    found = said_in(body)
    error = refused(status, headers, body, found, repairs=REPAIRS)
    error.param = found.param  # a path into the client's own request, which the upstream was told as it is
    return _sealed(error, found)


def in_band(content: JSON, voice: Voice) -> RelayError:
    """An ``error`` event, or a failed Response, as ours; what a failed Response has used is kept."""
    usage = usage_with_details(content.get("usage"))
    if usage is not None:
        voice.usage(usage)
    found = said(content)
    error = classify(500, found, param=found.param)
    if error.kind != "upstream_error":
        return _sealed(error, found)
    # the upstream's own words: there is no status beside them that says more
    known = found.code if found.code in STREAM_CODES else None
    return RelayError("upstream_error", clean(found.shown) or error.message, code=known, detail=error.detail)


def _sealed(error: RelayError, found: Said) -> RelayError:
    """Reasoning that this upstream did not seal can be left out (decision 60)."""
    if found.code == "invalid_encrypted_content" or (error.kind == "invalid_request" and _UNSEALED.search(found.text)):
        error.repair = SEALED
    return error
