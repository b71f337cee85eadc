"""When a translator says that nothing is missing but what may come late, and how long that is waited for.

The seconds are decision 44's; the streams are of the shapes that were reported: maximhq/bifrost#6784 (silence after the
reason), BerriAI/litellm#2195 and router-for-me/CLIProxyAPI#5651 (STOP in every chunk).
"""

from __future__ import annotations

from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.base import Continue, Done, Translator
from relay.providers.registry import PROVIDERS
from relay.responses.emitter import Emitter
from tests.providers.speech import SPEECHES, Speech, data
from tests.providers.test_contract import translator

Json = dict[str, Any]

EVERY = pytest.mark.parametrize("dialect", SPEECHES)
JOINT = pytest.mark.parametrize("dialect", [name for name, speech in SPEECHES.items() if speech.joint])


def hearing(dialect: str, **body: Any) -> tuple[Speech, Translator, Emitter]:
    one, emitter = translator(PROVIDERS[dialect], **body)
    return SPEECHES[dialect], one, emitter


def seconds(one: Translator) -> float | None:
    return None if one.wait is None else one.wait.seconds


@EVERY
def test_a_reason_after_output_leaves_two_seconds(dialect: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.text("Hi") + speech.text(" there"))
    assert one.wait is None
    one.feed(speech.reason(speech.stop))
    assert (seconds(one), one.ended) == (2.0, False)
    assert one.close() == Done("completed")


@EVERY
def test_a_reason_before_output_leaves_ten(dialect: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.reason(speech.stop))
    assert seconds(one) == 10.0


@EVERY
@pytest.mark.parametrize("first", ["", "Hi"])
def test_what_says_nothing_new_changes_nothing(dialect: str, first: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + (speech.text(first) if first else b"") + speech.reason(speech.stop))
    before = one.wait
    one.feed(speech.again + speech.reason(speech.stop) + speech.again)
    assert one.wait is before


@EVERY
def test_output_takes_the_end_back_and_the_next_reason_counts_anew(dialect: str) -> None:
    speech, one, emitter = hearing(dialect)
    one.feed(speech.begin + speech.reason(speech.stop))
    one.feed(speech.text("Hi"))
    assert one.wait is None
    one.feed(speech.text(" there") + speech.reason(speech.limit))
    assert seconds(one) == 2.0
    one.feed(speech.text("!"))
    assert one.wait is None
    one.feed(speech.reason(speech.limit))
    assert one.close() == Done("incomplete", "max_output_tokens")
    emitter.conclude("incomplete", reason="max_output_tokens")
    texts = [part["text"] for item in emitter.output for part in item["content"]]
    assert "".join(texts) == "Hi there!"


@JOINT
@pytest.mark.parametrize("opening", [False, True], ids=["with the first", "before it"])
def test_a_reason_in_every_chunk_is_no_end(dialect: str, opening: bool) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + (speech.reason(speech.stop) if opening else b""))
    waits = []
    for piece in ("He", "l", "lo"):
        one.feed(speech.reason(speech.stop, piece))
        waits.append(one.wait)
        assert seconds(one) == 10.0
    assert len({id(wait) for wait in waits}) == 3


@JOINT
def test_a_reason_with_the_last_output_leaves_two_seconds_anew(dialect: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.text("He") + speech.reason(speech.stop, "llo"))
    before = one.wait
    assert seconds(one) == 2.0
    one.feed(speech.reason(speech.stop, "!"))
    assert seconds(one) == 2.0
    assert one.wait is not before


@EVERY
def test_an_error_after_the_reason_is_a_failure(dialect: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.text("Hi") + speech.reason(speech.stop))
    with pytest.raises(RelayError):
        one.feed(speech.error)


@EVERY
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_piece_of_an_event_after_the_reason_says_nothing(dialect: str, kept: float) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.text("Hi") + speech.reason(speech.stop))
    late = speech.reason(speech.limit)
    one.feed(late[: round(len(late) * kept)])
    assert one.close() == Done("completed")


@EVERY
def test_a_whole_event_without_its_blank_line_counts(dialect: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.text("Hi") + speech.reason(speech.stop))
    one.feed(speech.reason(speech.limit).rstrip())
    assert one.close() == Done("incomplete", "max_output_tokens")


@EVERY
def test_a_piece_of_an_error_after_the_reason_is_a_failure(dialect: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.text("Hi") + speech.reason(speech.stop) + b'event: error\ndata: {"error": {"mess')
    with pytest.raises(RelayError):
        one.close()


@EVERY
def test_a_piece_of_an_event_before_any_reason_is_no_end(dialect: str) -> None:
    speech, one, _ = hearing(dialect)
    one.feed(speech.begin + speech.text("Hi") + speech.text(" there")[:-10])
    with pytest.raises(RelayError):
        one.close()


def test_a_done_without_its_blank_line_after_the_reason() -> None:
    speech, one, _ = hearing("chat")
    one.feed(speech.begin + speech.text("Hi") + speech.reason(speech.stop) + b"data: [DONE]")
    assert one.close() == Done("completed")
    assert one.ended


def test_pauses_go_on_after_silence_too() -> None:
    """A reason that asks for another hop makes the hop."""
    speech, one, _ = hearing("anthropic")
    one.feed(speech.begin + speech.text("Hi") + speech.reason("pause_turn"))
    assert seconds(one) == 2.0
    assert isinstance(one.close(), Continue)


def test_a_prompt_that_gemini_blocks_leaves_ten_seconds() -> None:
    _, one, _ = hearing("gemini")
    one.feed(data({"promptFeedback": {"blockReason": "SAFETY"}}))
    assert seconds(one) == 10.0
    assert one.close() == Done("incomplete", "content_filter")


@pytest.mark.parametrize(
    "start",
    [
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
        {"type": "text", "text": "Hi"},
        {"type": "thinking", "thinking": "hm", "signature": ""},
    ],
    ids=lambda start: start["type"],
)
def test_blocks_that_are_output_as_they_begin(start: Json) -> None:
    speech, one, _ = hearing("anthropic", tools=[{"type": "function", "name": "f"}])
    one.feed(speech.begin + data({"type": "content_block_start", "index": 0, "content_block": start}))
    one.feed(speech.reason("tool_use"))
    assert seconds(one) == 2.0


def test_a_delta_of_a_block_that_is_still_open_takes_the_end_back() -> None:
    speech, one, _ = hearing("anthropic")
    opening = data({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    one.feed(speech.begin + opening + speech.reason(speech.stop))
    assert seconds(one) == 10.0
    one.feed(data({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ""}}))
    assert seconds(one) == 10.0
    one.feed(data({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}))
    assert one.wait is None


@pytest.mark.parametrize(("reason", "status"), [("STOP", "failed"), ("MAX_TOKENS", "incomplete")])
def test_a_call_that_gemini_never_stopped_is_no_whole_answer(reason: str, status: str) -> None:
    """``willContinue`` says that a call is not whole (ai.google.dev/gemini-api/docs/function-calling, streamed)."""
    _, one, emitter = hearing("gemini")
    call = {"name": "f", "id": "call_1", "willContinue": True}
    one.feed(data({"candidates": [{"content": {"parts": [{"functionCall": call}]}}]}))
    one.feed(SPEECHES["gemini"].reason(reason))
    if status == "failed":
        with pytest.raises(RelayError):
            one.close()
    else:
        assert one.close() == Done("incomplete", "max_output_tokens")
    emitter.conclude("incomplete", reason="max_output_tokens")
    assert [item["status"] for item in emitter.output] == ["incomplete"]


# --- bodies that came whole

BODIES: dict[str, Any] = {
    "chat": lambda reason, made: {
        "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": made},
    },
    "anthropic": lambda reason, made: {
        "type": "message",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": reason,
        "usage": {"input_tokens": 1, "output_tokens": made},
    },
    "gemini": lambda reason, made: {
        "candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": reason}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": made, "totalTokenCount": 1 + made},
    },
}


@EVERY
@pytest.mark.parametrize("reason", [None, "", " ", "null", "None"])
@pytest.mark.parametrize(("made", "status"), [(99, "completed"), (100, "incomplete")])
def test_a_whole_body_without_a_reason(dialect: str, reason: str | None, made: int, status: str) -> None:
    _, one, _ = hearing(dialect, max_output_tokens=100)
    one.from_body(BODIES[dialect](reason, made))
    done = one.close()
    assert isinstance(done, Done)
    assert (done.status, done.reason) == (status, "max_output_tokens" if status == "incomplete" else None)


def test_a_gemini_body_without_output_and_reason_is_no_answer() -> None:
    _, one, _ = hearing("gemini")
    one.from_body({"promptFeedback": {"blockReason": "SAFETY"}})
    assert one.close() == Done("incomplete", "content_filter")


@pytest.mark.parametrize(
    ("reason", "status"), [("end_turn", "failed"), ("tool_use", "failed"), ("max_tokens", "incomplete")]
)
@pytest.mark.parametrize("end", [b"", data({"type": "message_stop"}, "message_stop")], ids=["silence", "message_stop"])
@pytest.mark.parametrize(
    "start", [{"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}]
)
def test_a_block_that_was_never_stopped_is_no_whole_answer(start: Json, end: bytes, reason: str, status: str) -> None:
    """However the answer ended after its reason (decision 44)."""
    speech, one, _ = hearing("anthropic", tools=[{"type": "function", "name": "f"}])
    opening = data({"type": "content_block_start", "index": 0, "content_block": start})
    one.feed(speech.begin + opening + speech.reason(reason) + end)
    if status == "failed":
        with pytest.raises(RelayError):
            one.close()
    else:
        assert one.close() == Done("incomplete", "max_output_tokens")
