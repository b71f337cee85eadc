"""The one error class and the tables that turn causes into the API's envelope.

Source: translation.md §5 (upstream conditions), responses-api.md §6 (envelope, codes), decisions.md 1.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson


class Kind(NamedTuple):
    """What a client is told about one cause: HTTP status, ``error.type``, ``error.code``."""

    status: int
    type: str
    code: str | None


_BAD: Final = "invalid_request_error"

KINDS: Final[dict[str, Kind]] = {
    # the client's request
    "invalid_json": Kind(400, _BAD, "invalid_json"),
    "invalid_request": Kind(400, _BAD, None),
    "invalid_value": Kind(400, _BAD, "invalid_value"),
    "invalid_type": Kind(400, _BAD, "invalid_type"),
    "missing_parameter": Kind(400, _BAD, "missing_required_parameter"),
    "unknown_parameter": Kind(400, _BAD, "unknown_parameter"),
    "unsupported_parameter": Kind(400, _BAD, "unsupported_parameter"),
    "unsupported_value": Kind(400, _BAD, "unsupported_value"),
    "context_length_exceeded": Kind(400, _BAD, "context_length_exceeded"),
    "content_policy": Kind(400, _BAD, "content_policy_violation"),
    "invalid_prompt": Kind(400, _BAD, "invalid_prompt"),
    "unsupported_image": Kind(400, _BAD, "unsupported_image_media_type"),
    "invalid_base64_image": Kind(400, _BAD, "invalid_base64_image"),
    "invalid_image_url": Kind(400, _BAD, "invalid_image_url"),
    "image_too_large": Kind(400, _BAD, "image_too_large"),
    "image_parse_error": Kind(400, _BAD, "image_parse_error"),
    "failed_to_download_image": Kind(400, _BAD, "failed_to_download_image"),
    "previous_response_not_found": Kind(400, _BAD, "previous_response_not_found"),
    "response_not_completed": Kind(400, _BAD, "response_not_completed"),
    "conversation_locked": Kind(400, _BAD, "conversation_locked"),
    "invalid_stream_id": Kind(400, _BAD, "invalid_stream_id"),
    "websocket_stream_limit_reached": Kind(400, _BAD, "websocket_stream_limit_reached"),
    "websocket_connection_limit_reached": Kind(400, _BAD, "websocket_connection_limit_reached"),
    "websocket_queue_full": Kind(429, "rate_limit_error", "websocket_queue_full"),
    "bad_request": Kind(400, _BAD, "bad_request"),
    "invalid_api_key": Kind(401, _BAD, "invalid_api_key"),
    "forbidden": Kind(403, _BAD, "forbidden"),
    "permission_denied": Kind(403, _BAD, "permission_denied"),
    "not_found": Kind(404, _BAD, "not_found"),
    "model_not_found": Kind(404, _BAD, "model_not_found"),
    "unsupported_endpoint": Kind(404, _BAD, "unsupported_endpoint"),
    "method_not_allowed": Kind(405, _BAD, "method_not_allowed"),
    "request_timeout": Kind(408, _BAD, "request_timeout"),
    "conflict": Kind(409, _BAD, "conflict"),
    "request_too_large": Kind(413, _BAD, "request_too_large"),
    "external_connector_error": Kind(424, "external_connector_error", "http_error"),
    "unsupported_media_type": Kind(415, _BAD, "unsupported_media_type"),
    "upgrade_required": Kind(426, _BAD, "upgrade_required"),
    "headers_too_large": Kind(431, _BAD, "headers_too_large"),
    # limits, quota, load
    "rate_limited": Kind(429, "rate_limit_error", "rate_limit_exceeded"),
    "insufficient_quota": Kind(429, "insufficient_quota", "insufficient_quota"),
    "background_queue_full": Kind(429, "rate_limit_error", "background_queue_full"),
    "overloaded": Kind(503, "server_error", "server_overloaded"),
    "draining": Kind(503, "server_error", "server_overloaded"),
    "store_unavailable": Kind(503, "server_error", "store_unavailable"),
    # the upstream
    "upstream_authentication": Kind(502, "server_error", "upstream_authentication_error"),
    "upstream_billing": Kind(503, "server_error", "upstream_billing"),
    "upstream_forbidden": Kind(502, "server_error", "model_not_available"),
    "upstream_misconfigured": Kind(502, "server_error", "upstream_misconfigured"),
    "upstream_unreachable": Kind(502, "server_error", "upstream_unreachable"),
    "upstream_bad_response": Kind(502, "server_error", "upstream_bad_response"),
    "upstream_ended_early": Kind(502, "server_error", "upstream_bad_response"),
    "upstream_timeout": Kind(504, "server_error", "upstream_timeout"),
    "upstream_error": Kind(500, "server_error", "server_error"),
    # ourselves
    "translation_error": Kind(500, "server_error", "translation_error"),
    "output_too_large": Kind(502, "server_error", "output_too_large"),
    "internal": Kind(500, "server_error", "server_error"),
}

# ``response.error.code`` inside ``response.failed``: what openai-python's literal and Codex know (responses-api.md
# §4.7, §6.5). Whatever is not here is said as ``server_error``, so that clients retry what may be retried only.
STREAM_CODES: Final[dict[str, str]] = {
    "rate_limit_exceeded": "rate_limit_exceeded",
    "insufficient_quota": "insufficient_quota",
    "context_length_exceeded": "context_length_exceeded",
    "content_policy_violation": "invalid_prompt",
    "content_filter": "invalid_prompt",
    "invalid_prompt": "invalid_prompt",
    "server_overloaded": "server_is_overloaded",
    "previous_response_not_found": "previous_response_not_found",
    "unsupported_image_media_type": "unsupported_image_media_type",
    "invalid_base64_image": "invalid_base64_image",
    "invalid_image_url": "invalid_image_url",
    "image_too_large": "image_too_large",
    "image_parse_error": "image_parse_error",
    "failed_to_download_image": "failed_to_download_image",
    "upstream_billing": "insufficient_quota",
    "server_is_overloaded": "server_is_overloaded",
    "data_residency_mismatch": "data_residency_mismatch",
    "bio_policy": "bio_policy",
    "misalignment_policy_violation": "misalignment_policy_violation",
    "vector_store_timeout": "vector_store_timeout",
    "invalid_image": "invalid_image",
    "invalid_image_format": "invalid_image_format",
    "image_too_small": "image_too_small",
    "image_content_policy_violation": "image_content_policy_violation",
    "invalid_image_mode": "invalid_image_mode",
    "image_file_too_large": "image_file_too_large",
    "empty_image_file": "empty_image_file",
    "image_file_not_found": "image_file_not_found",
    "usage_not_included": "usage_not_included",
    "cyber_policy": "cyber_policy",
}


class RelayError(Exception):
    """Something went wrong that a client is told about, once, in the API's own envelope.

    ``kind`` names a row of ``KINDS``; ``code`` and ``type`` override its columns (an upstream's own words);
    ``param`` is a path such as ``input[2].content[0].file_id``; ``retry_after_s`` becomes ``Retry-After``;
    ``retry_at_s`` is the same as seconds since 1970, for who has a clock; ``repair`` names a repair that the provider
    knows for this refusal (decision 19); ``detail`` is for the log only.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        retry_at_s: float | None = None,
        repair: str | None = None,
        detail: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        row = KINDS[kind]
        self.kind = kind
        self.message = message
        self.param = param
        self.status = row.status if status is None else status
        self.type = row.type if type is None else type
        self.code = row.code if code is None else code
        self.retry_after_s = retry_after_s
        self.retry_at_s = retry_at_s
        self.repair = repair
        self.detail = detail
        self.headers = headers

    def envelope(self) -> dict[str, Any]:
        """``{"error": {message, type, param, code}}``, all four keys always there (responses-api.md §6.1)."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The envelope as JSON."""
        return orjson.dumps(self.envelope())

    def stream_error(self) -> dict[str, str]:
        """``response.error`` of a ``response.failed`` event: ``{code, message}`` (translation.md §3.7)."""
        code = STREAM_CODES.get(self.code or "", "server_error")
        message = self.message
        if code == "rate_limit_exceeded" and self.retry_after_s is not None and "try again in" not in message.lower():
            # Codex reads its delay out of the text (responses-api.md §6.5).
            message = f"{message.rstrip('.')}. Please try again in {self.retry_after_s:g}s."
        return {"code": code, "message": message}

    def socket_envelope(self, stream_id: str | None = None) -> dict[str, Any]:
        """The WebSocket form: integer ``status`` and a non-empty string ``code`` (responses-api.md §5.8)."""
        error = self.envelope()["error"]
        error["code"] = self.code or self.type
        message: dict[str, Any] = {"type": "error", "status": self.status, "error": error}
        headers = dict(self.response_headers())
        if headers:
            message["headers"] = headers
            error["headers"] = headers
        if stream_id is not None:
            message["stream_id"] = stream_id
        return message

    def response_headers(self) -> list[tuple[str, str]]:
        """Headers that belong to this error: its own, and ``Retry-After`` in whole seconds, rounded up."""
        headers = list(self.headers)
        if self.retry_after_s is not None:
            headers.append(("retry-after", str(-int(-self.retry_after_s // 1))))
            headers.append(("retry-after-ms", str(round(self.retry_after_s * 1000))))
        return headers
