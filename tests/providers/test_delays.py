"""When to come back, in every form in which upstreams say so (translation.md §5.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers import anthropic, chat, gemini, openai
from relay.providers.base import Provider
from relay.providers.chat_failures import error_of as chat_error
from relay.providers.delays import Delay, delay_of, duration, limits, reset, spoken, told
from relay.providers.failures import settled

EVERY = pytest.mark.parametrize(
    "provider", [chat.PROVIDER, anthropic.PROVIDER, gemini.PROVIDER, openai.PROVIDER], ids=lambda one: one.name
)
NOW = 1_795_780_800  # 2026-11-27T12:00:00Z


def wait_s(provider: Provider, status: int, body: Any, **headers: str) -> float | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    error = provider.error(status, named, json.dumps(body).encode())
    return settled(error, NOW, client_key=False).retry_after_s


BUSY = {"error": {"message": "busy"}}
FORMS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry_after": "7"}, 7),
    ({"retry_after": "7.5"}, 7.5),
    ({"retry_after": "30s"}, 30),
    ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
    ({"retry_after_ms": "x", "retry_after": "2"}, 2),
    ({"x_ms_retry_after_ms": "2500"}, 2.5),
    # RFC 9110 §5.6.7: the form of today, and the two of old
    ({"retry_after": "Fri, 27 Nov 2026 12:01:30 GMT"}, 90),
    ({"retry_after": "Friday, 27-Nov-26 12:01:30 GMT"}, 90),
    ({"retry_after": "Fri Nov 27 12:01:30 2026"}, 90),
    ({"retry_after": "Fri, 27 Nov 2026 11:00:00 GMT"}, 0),
    ({"retry_after": "2026-11-27T12:01:30Z"}, 90),
    ({"retry_after": "-1"}, None),
    ({"retry_after": "99999999"}, None),
    ({"retry_after": "Fri, 27 Nov 2036 12:00:00 GMT"}, None),
    ({"retry_after": "soon"}, None),
    ({"retry_after": "Mon, 99 Foo"}, None),
    # OpenRouter, GitHub, and whoever has a bare one
    ({"x_ratelimit_reset": str((NOW + 30) * 1000)}, 30),
    ({"x_ratelimit_reset": str(NOW + 30)}, 30),
    ({"x_ratelimit_reset": "30"}, 30),
    ({"x_ratelimit_reset": "6m0s"}, 360),
    ({"x_ratelimit_reset": "1h2m3.5s"}, 3723.5),
    ({"x_ratelimit_reset": "20ms"}, 0.02),
    ({"ratelimit_reset": "12"}, 12),
    ({"x_ratelimit_reset": "never"}, None),
    # OpenAI: the limit that is used up
    ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1s"}, 1),
    (
        {
            "x_ratelimit_remaining_requests": "9",
            "x_ratelimit_reset_requests": "8m",
            "x_ratelimit_remaining_tokens": "0",
            "x_ratelimit_reset_tokens": "7.66s",
        },
        7.66,
    ),
    ({"x_ratelimit_remaining_requests": "9", "x_ratelimit_reset_requests": "8m"}, None),
    ({"x_ratelimit_reset_tokens": "8m"}, 480),
    # draft-ietf-httpapi-ratelimit-headers-10
    ({"ratelimit": '"default";r=0;t=30'}, 30),
    ({"ratelimit": '"default";r=5;t=30'}, None),
    # Anthropic
    ({"anthropic_ratelimit_tokens_remaining": "0", "anthropic_ratelimit_tokens_reset": "2026-11-27T12:00:40Z"}, 40),
]


@EVERY
@pytest.mark.parametrize(("headers", "seconds"), FORMS)
def test_headers(provider: Provider, headers: dict[str, str], seconds: float | None) -> None:
    assert wait_s(provider, 429, BUSY, **headers) == (None if seconds is None else pytest.approx(seconds))


GOOGLE = {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}
INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "52s"}
BODIES: list[tuple[Any, float | None]] = [
    ({"error": {**GOOGLE, "details": [{"@type": "x"}, INFO]}}, 52),
    ({"error": {**GOOGLE, "retryDelay": "52s"}}, 52),  # BerriAI/litellm#25507
    ({"error": {**GOOGLE, "details": [{**INFO, "retryDelay": {"seconds": 52}}]}}, 52),
    ({"error": {"message": json.dumps({"error": {**GOOGLE, "details": [INFO]}}), "code": 429}}, 52),
    ([{"error": {**GOOGLE, "details": [INFO]}}], 52),
    ({"error": {**GOOGLE, "message": "Quota exceeded. Please retry in 48.939935699s."}}, 48.939935699),
    ({"error": {**GOOGLE, "details": [{**INFO, "retryDelay": "soon"}, "x"]}}, None),
    ({"error": {"message": "Rate limit reached. Please try again in 1.2s."}}, 1.2),
    ({"error": {"message": "Rate limit reached. Please try again in 6m0s. Visit …"}}, 360),
    ({"error": {"message": "Rate limit is exceeded. Try again in 20 seconds."}}, 20),
    ({"error": {"message": "Please retry after 12 seconds."}}, 12),
    ({"error": {"message": "Please try again in 1 hour and 5 minutes."}}, 3900),
    ({"error": {"message": "busy", "retry_after": 3}}, 3),
    ({"error": {"message": "busy", "retry_after": 3, "metadata": {"retry_after": 9}}}, 3),
    ({"error": {"message": "busy", "metadata": {"retry_after_seconds": 4.5}}}, 4.5),
    ({"error": {"message": "busy", "retry_after_ms": 250}}, 0.25),
    ({"error": {"message": "busy", "metadata": {"headers": {"X-RateLimit-Reset": str((NOW + 9) * 1000)}}}}, 9),
    ({"error": {"message": "busy", "metadata": {"headers": {"Retry-After": "11"}}}}, 11),
    ({"error": {"message": "try again in 900000000 days"}}, None),
    ({"error": {"message": "busy", "retry_after": True}}, None),
]


@EVERY
@pytest.mark.parametrize(("body", "seconds"), BODIES)
def test_bodies(provider: Provider, body: Any, seconds: float | None) -> None:
    assert wait_s(provider, 429, body) == (None if seconds is None else pytest.approx(seconds))


@EVERY
def test_which_of_them_counts(provider: Provider) -> None:
    assert wait_s(provider, 429, BODIES[0][0], retry_after="7") == 52
    assert wait_s(provider, 429, {"error": {"message": "try again in 20s"}}, retry_after="7") == 7
    assert wait_s(provider, 503, BUSY, retry_after="7") == 7
    assert wait_s(provider, 400, {"error": {"message": "bad field; try again in 5s"}}) is None


def test_a_wait_inside_a_200_is_told_too() -> None:
    error = chat_error({"error": {"code": "RateLimitReached", "message": "Retry after 12 seconds."}})
    assert error.retry_after_s == 12


@pytest.mark.parametrize("value", [None, [], "", "1.2.3", "nan", "1e9", "5 parsecs", {"nanos": 5}])
def test_what_is_no_time(value: Any) -> None:
    assert delay_of(value) is None


def test_the_pieces() -> None:
    assert told({"retry-after": "5"}) == Delay(seconds=5)
    assert reset({}) is None
    assert spoken("come back") is None
    assert [duration(s) for s in (-5, 0, 1.4, 61, 360, 3600)] == ["0s", "0s", "1s", "1m1s", "6m0s", "1h0m0s"]


def test_limits_of_a_clients_own_key() -> None:
    """platform.openai.com and platform.claude.com, "Rate limits"."""
    openai_says = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    assert dict(limits({**openai_says, "content-type": "x"}, NOW)) == openai_says
    anthropic_says = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-input-tokens-remaining": "49500",
        "anthropic-ratelimit-tokens-reset": "2026-11-27T12:06:00Z",
        "anthropic-ratelimit-unified-status": "allowed",
    }
    assert dict(limits(anthropic_says, NOW)) == {
        "x-ratelimit-limit-requests": "50",
        "x-ratelimit-remaining-input-tokens": "49500",
        "x-ratelimit-reset-tokens": "6m0s",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-ratelimit-limit-requests", "sk-secret-key"),
        ("x-ratelimit-limit-requests", "1\r\nset-cookie: x"),
        ("x-ratelimit-limit-requests", "1" * 200),
        ("x-ratelimit-limit-" + "a" * 100, "1"),
        ("x-ratelimit-policy", "x"),
        ("anthropic-ratelimit-tokens-reset", "soon"),
    ],
)
def test_headers_that_are_no_limits_do_not_pass(name: str, value: str) -> None:
    assert limits({name: value}, NOW) == ()


def test_headers_are_few() -> None:
    assert len(limits({f"x-ratelimit-limit-{n}": "1" for n in range(100)}, NOW)) == 32


def test_a_wait_is_read_once() -> None:
    error = RelayError("rate_limited", "m", retry_after_s=3, retry_at_s=NOW + 50)
    assert settled(error, NOW, client_key=True).retry_after_s == 3
