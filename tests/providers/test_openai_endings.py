"""How a native response ends: one status for its events and its JSON (decision 45), and a reason that comes late (46).

Expected: the decisions; outliving.md 30 (a cancel is a ``response.failed`` whose Response says ``cancelled``);
vllm-project/vllm (always ``response.completed``), earendil-works/pi#7983 (Azure says why in the next frame).
"""

from __future__ import annotations

from typing import Any

import pytest

from relay.errors import RelayError
from tests.providers.openai_support import HELLO, Heard, Json, event, renamed, response, stream, text_frames

NAMES = ("completed", "incomplete", "failed", "cancelled", "done")
STATUSES: list[tuple[Any, str | None]] = [
    # status of the Response, how it ends; None: as the event is named
    ("completed", "completed"),
    ("incomplete", "incomplete"),
    ("failed", "failed"),
    ("cancelled", "failed"),
    ("in_progress", "failed"),
    ("queued", "failed"),
    ("exploded", "failed"),
    (None, None),
    ("", None),
    (200, None),
    (..., None),
]
AS_NAMED = {
    "completed": "completed",
    "incomplete": "incomplete",
    "failed": "failed",
    "cancelled": "failed",
    "done": "completed",
}


def told(status: Any, **fields: Any) -> Json:
    """A Response that says ``status``, or nothing of it."""
    whole: Json = response("completed", **fields)["response"]
    if status is ...:
        del whole["status"]
    else:
        whole["status"] = status
    return whole


def streamed(name: str, final: Json, **options: Any) -> Heard:
    item = text_frames("Half")[-1][1]["item"]
    opening = [("created", response()), ("in_progress", response()), *text_frames("Half")]
    return Heard(**options).hear(renamed([*opening, (name, {"response": {**final, "output": [item]}})]))


def ending(heard: Heard) -> str:
    return str(heard.final["status"]) if heard.error is None else "failed"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("status", "ends"), STATUSES)
@pytest.mark.parametrize("holds_state", [False, True])
def test_the_responses_status_wins_over_the_events_name(
    name: str, status: Any, ends: str | None, holds_state: bool
) -> None:
    heard = streamed(name, told(status), holds_state=holds_state)
    assert ending(heard) == (ends or AS_NAMED[name])
    assert [one["type"] for one in heard.events][-1] == f"response.{heard.final['status']}"
    assert heard.final["output"][0]["content"][0]["text"] == "Half"


@pytest.mark.parametrize(("status", "ends"), STATUSES)
def test_a_body_ends_as_its_stream_does(status: Any, ends: str | None) -> None:
    heard = Heard({"stream": False}).read({**told(status), "output": [text_frames("Half")[-1][1]["item"]]})
    assert ending(heard) == (ends or "completed")


def test_a_failure_keeps_its_words_in_both() -> None:
    error = {"code": "rate_limit_exceeded", "message": "Slow down"}
    for heard in (streamed("completed", told("failed", error=error)), Heard().read(told("failed", error=error))):
        assert heard.error is not None
        assert (heard.error.kind, heard.error.message) == ("rate_limited", "Slow down")
    for heard in (streamed("completed", told(None, error=error)), Heard().read(told(None, error=error))):
        assert heard.error is not None
        assert heard.error.kind == "rate_limited"


def test_a_cancel_says_so() -> None:
    for heard in (streamed("completed", told("cancelled")), Heard().read(told("cancelled"))):
        assert heard.error is not None
        assert "cancelled" in heard.error.message
    said = streamed("failed", told("cancelled", error={"message": "by the operator"}))
    assert said.error is not None
    assert said.error.message == "by the operator"


@pytest.mark.parametrize("name", ["failed", "cancelled", "done", "completed"])
def test_a_cancelled_background_response_says_that_it_was(name: str) -> None:
    heard = streamed(name, told("cancelled"), body={"background": True}, holds_state=True)
    assert heard.error is None
    last = heard.events[-1]
    assert (last["type"], last["response"]["status"], last["response"]["error"]) == (
        "response.failed",
        "cancelled",
        None,
    )


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "completed"])
def test_a_background_body_may_come_before_its_end(status: str) -> None:
    heard = Heard({"stream": False, "background": True}, holds_state=True)
    heard.translator.from_body(response(status)["response"])
    assert heard.translator.close().status == status


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_only_where_the_upstream_runs_it(status: str) -> None:
    for options in ({"holds_state": True}, {"body": {"background": True}}):
        heard = Heard(**options).read(response(status)["response"])  # type: ignore[arg-type]
        assert heard.error is not None
    assert streamed("completed", told(status), body={"background": True}, holds_state=True).error is not None


# --- a failure without details

NAMED = event("error", 9, error={"type": "too_many_requests", "code": "rate_limit_exceeded", "message": "Slow down"})
LIMIT = NAMED.replace(b"response.error", b"error")
EMPTY: list[Any] = [None, {}, {"code": None, "message": None}, {"code": "server_error", "message": ""}, ""]


def failing(error: Any, *later: bytes) -> Heard:
    frames = renamed([("created", response()), ("failed", response("failed", error=error))])
    return Heard().feed(*frames, *later)


@pytest.mark.parametrize("error", EMPTY)
@pytest.mark.parametrize("frame", [LIMIT, NAMED], ids=["error", "response.error"])
def test_a_failure_without_details_waits_a_second_for_the_next_frame(error: Any, frame: bytes) -> None:
    heard = failing(error)
    assert heard.translator.wait is not None
    assert heard.translator.wait.seconds == 1.0
    with pytest.raises(RelayError) as caught:
        heard.feed(frame)
    assert (caught.value.kind, caught.value.message) == ("rate_limited", "Slow down")


@pytest.mark.parametrize("error", EMPTY)
def test_where_none_comes_it_has_failed_without_words(error: Any) -> None:
    with pytest.raises(RelayError) as caught:
        failing(error).translator.close()
    assert (caught.value.kind, caught.value.status) == ("upstream_error", 500)


def test_pings_are_no_frame() -> None:
    heard = failing(None, b": ping\n\n", event("keepalive", 9).replace(b"response.keepalive", b"keepalive"))
    before = heard.translator.wait
    assert before is not None
    with pytest.raises(RelayError) as caught:
        heard.feed(LIMIT)
    assert caught.value.kind == "rate_limited"


@pytest.mark.parametrize(
    "frame", [b"data: [DONE]\n\n", HELLO[3], renamed([("failed", response("failed", error=None))])[0]]
)
def test_one_frame_is_waited_for_and_no_more(frame: bytes) -> None:
    heard = failing(None)
    with pytest.raises(RelayError) as caught:
        heard.feed(frame)
    assert caught.value.kind == "upstream_error"
    assert not heard.emitter.started


def test_a_second_failure_may_have_the_words() -> None:
    heard = failing(None)
    with pytest.raises(RelayError) as caught:
        heard.feed(*renamed([("failed", response("failed", error={"code": "slow_down", "message": "Busy"}))]))
    assert caught.value.kind == "overloaded"


@pytest.mark.parametrize("error", ["no memory", {"message": "boom"}, {"code": "rate_limit_exceeded"}])
def test_a_failure_with_details_waits_for_nothing(error: Any) -> None:
    with pytest.raises(RelayError):
        failing(error)


def test_an_unknown_status_beside_an_error_is_the_error() -> None:
    error = {"code": "rate_limit_exceeded", "message": "Slow down"}
    for heard in (streamed("completed", told("error", error=error)), Heard().read(told("error", error=error))):
        assert heard.error is not None
        assert heard.error.kind == "rate_limited"


# --- what the upstream runs by itself: every event and every number as it has them (decision 59)


def test_a_background_stream_keeps_every_event_and_number() -> None:
    keepalive = event("keepalive", 4).replace(b"response.keepalive", b"keepalive")
    item = text_frames("")[0][1]["item"]
    heard = Heard({"background": True}, holds_state=True)
    heard.feed(event("created", 0, **response("queued")), event("queued", 1, **response("queued")))
    assert heard.wire == b""
    heard.emitter.start()  # by the clock, before anything meaningful: with what has come
    heard.feed(event("in_progress", 2, **response()), keepalive)
    heard.feed(event("output_item.added", 5, output_index=0, item=item))
    heard.hear([event("output_item.done", 9, output_index=0, item={**item, "status": "completed"})])
    shown = [(one["type"].removeprefix("response."), one["sequence_number"]) for one in heard.events]
    assert shown[:6] == [
        ("created", 0),
        ("queued", 1),
        ("in_progress", 2),
        ("keepalive", 4),
        ("output_item.added", 5),
        ("output_item.done", 9),
    ]
    assert [one["response"]["status"] for one in heard.events[:3]] == ["queued", "queued", "in_progress"]
    assert keepalive in heard.wire


def test_a_background_streams_end_keeps_its_number() -> None:
    heard = Heard({"background": True}, holds_state=True)
    heard.hear([event("created", 0, **response()), event("completed", 7, **response("completed"))])
    assert [(one["type"], one["sequence_number"]) for one in heard.events] == [
        ("response.created", 0),
        ("response.completed", 7),
    ]


def test_a_foreground_streams_keepalives_are_dropped() -> None:
    keepalive = event("keepalive", 2).replace(b"response.keepalive", b"keepalive")
    heard = Heard(holds_state=True).hear([*HELLO[:2], keepalive, *HELLO[2:]])
    assert [one["sequence_number"] for one in heard.events] == list(range(len(heard.events)))
    assert b"keepalive" not in heard.wire


def test_signs_of_life_between_deltas_renumber_what_follows() -> None:
    """Event by event and in runs."""
    frames = stream(*text_frames(*(f" {number}" for number in range(40))))
    heard = Heard().feed(*frames[:10])
    heard.emitter.alive()
    heard.feed(b"".join(frames[10:20]))
    heard.emitter.alive()
    heard.hear([b"".join(frames[20:])])
    assert [one["sequence_number"] for one in heard.events] == list(range(len(frames) + 2))
    assert {**heard.events[10], "sequence_number": 1} == heard.events[1]
    assert "".join(one["delta"] for one in heard.events if one["type"].endswith("text.delta")) == "".join(
        f" {number}" for number in range(40)
    )
