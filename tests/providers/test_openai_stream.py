"""Native streams with hand-written expectations: what goes out as it came, what is put in, how a stream may end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from relay.errors import RelayError
from relay.providers.openai_run import Run
from relay.responses.sinks import NullSink, SocketSink, SSESink
from tests import oracle
from tests.providers.openai_support import (
    CALL,
    HELLO,
    MESSAGE,
    USAGE,
    Heard,
    Json,
    call_frames,
    event,
    renamed,
    response,
    stream,
    text_frames,
)
from tests.support import assert_linear

REASONING = {"id": "rs_1", "type": "reasoning", "summary": []}


def said(heard: Heard, name: str) -> list[Json]:
    """The events of one type."""
    return [one for one in heard.events if one["type"] == f"response.{name}"]


# --- what goes out as it came


def test_ordinary_events_keep_their_bytes() -> None:
    heard = Heard().hear(HELLO).check()
    ours = heard.wire.split(b"\n\n")
    assert [one + b"\n\n" for one in ours[2:-3]] == HELLO[2:-1]
    assert heard.output[0]["content"][0]["text"] == 'Hello wor\nld "q"!'


def test_case_36_unknown_events_and_members_are_forwarded_byte_for_byte() -> None:
    strange = b'event: response.new\ndata: {"type":"response.new", "x" : [1,{"y":null}],"sequence_number":2}\n\n'
    extra = event("output_item.added", 3, output_index=0, item={**MESSAGE, "phase": "final_answer"}, agent={"id": "a"})
    heard = Heard().feed(*HELLO[:2], strange, extra)
    assert heard.wire.endswith(strange + extra)


def test_pain_6_private_events_are_dropped_and_the_rest_renumbered() -> None:
    private = [
        b'event: codex.rate_limits\ndata: {"type":"codex.rate_limits","sequence_number":4}\n\n',
        b'event: keepalive\ndata: {"type":"keepalive","sequence_number":5}\n\n',
        b'data: {"type":"responsesapi.websocket_timing"}\n\n',
    ]
    later = [
        event(json.loads(one.split(b"data: ")[1])["type"][9:], number, **_fields(one))
        for number, one in enumerate(HELLO[4:], 6)
    ]
    heard = Heard().hear([*HELLO[:4], *private, *later]).check()
    assert heard.translator.ignored == 3
    assert [one["delta"] for one in said(heard, "output_text.delta")] == ["Hel", "lo", " wor\n", 'ld "q"', "!"]
    assert heard.wire == Heard().hear([b"".join([*HELLO[:4], *private, *later])]).wire


@pytest.mark.parametrize("sink", [SSESink, SocketSink])
@pytest.mark.parametrize(
    "name",
    [
        "response.odd\nevent: response.completed\ndata: {}",
        "response.odd\n\ndata: [DONE]\n\n",
        "response.odd\r\nid: 7",
        "response.odd\r",
        "response.odd\x00",
        "response.odd ",
        "response.\u2028x",
        "response.ödd",
        "response.",
        "response.odd:",
    ],
)
def test_a_name_that_is_more_than_a_name_is_dropped_and_counted(name: str, sink: type[SSESink | SocketSink]) -> None:
    """CWE-93: a line feed in ``type`` forged a terminal event and the end of the client's stream."""
    forged = b"data: " + json.dumps({"type": name, "sequence_number": 4}).encode() + b"\n\n"
    heard = Heard(sink=sink()).hear([*HELLO[:4], forged, *HELLO[4:]])
    assert heard.translator.ignored == 1
    assert heard.taken == Heard(sink=sink()).hear([*HELLO[:4], b": \n\n", *HELLO[4:]]).taken


def test_a_name_in_the_event_line_is_held_to_the_same() -> None:
    odd = b'event: response.odd\tname\ndata: {"sequence_number":4}\n\n'
    heard = Heard().hear([*HELLO[:4], odd, *HELLO[4:]])
    assert heard.translator.ignored == 1
    assert b"odd" not in heard.wire


def _fields(raw: bytes) -> Json:
    content: Json = json.loads(raw.split(b"data: ")[1])
    return {name: value for name, value in content.items() if name not in ("type", "sequence_number")}


@pytest.mark.parametrize("size", [1, 7, 300, 100_000])
def test_any_split_says_the_same(size: int) -> None:
    whole = b"".join(stream(*text_frames(*(f"word{n} " for n in range(40))), *call_frames('{"a"', ":", "1}", index=1)))
    heard = Heard().hear([whole[at : at + size] for at in range(0, len(whole), size)]).check()
    assert heard.wire == Heard().hear([whole]).wire


def test_multi_line_data_and_crlf_become_one_line() -> None:
    spread = HELLO[3].replace(b',"content_index"', b'\r\ndata: ,"content_index"').replace(b"\n\n", b"\r\n\r\n")
    heard = Heard().hear([*HELLO[:3], spread, *HELLO[4:]]).check()
    assert heard.names[3] == "content_part.added"


def test_events_without_names_get_them() -> None:
    """OpenRouter sends no ``event:`` lines; a read of deltas is framed anew."""
    bare = [b"data: " + one.split(b"data: ")[1] for one in HELLO]
    assert Heard().hear([b"".join(bare)]).wire == Heard().hear(HELLO).wire
    assert Heard().hear(bare).wire == Heard().hear(HELLO).wire


def test_a_name_can_stand_for_a_missing_type() -> None:
    untyped = [one.replace(b'"type":"response.output_text.delta",', b"") for one in HELLO]
    heard = Heard().hear(untyped).check()
    assert heard.output[0]["content"][0]["text"] == 'Hello wor\nld "q"!'


def _number_first(raw: bytes) -> bytes:
    content = json.loads(raw.split(b"data: ")[1])
    content = {"sequence_number": content.pop("sequence_number"), **content}
    return f"event: {content['type']}\ndata: {json.dumps(content, separators=(',', ':'))}\n\n".encode()


@pytest.mark.parametrize("arrange", [lambda raw: raw, _number_first], ids=["number last", "number first"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shift", [0, 5])
def test_runs_of_deltas_in_every_arrangement(arrange: Any, padded: bool, shift: int) -> None:
    """Numbers from one to four digits, padding or none, our numbers or others: as if each had come alone."""
    deltas = [["a", "bc", 'q"', "\\", "\n", "é", "{"][n % 7] * (n % 3 + 1) for n in range(1200)]
    frames = [
        (name, {**fields, "obfuscation": "x" * (n % 15)} if padded and name.endswith("delta") else fields)
        for n, (name, fields) in enumerate(text_frames(*deltas))
    ]
    raw = [arrange(one) for one in renamed([("created", response()), ("in_progress", response())])]
    raw += [arrange(event(name, number, **fields)) for number, (name, fields) in enumerate(frames, 2 + shift)]
    raw.append(event("completed", len(frames) + 2 + shift, **response("completed", [], usage=USAGE)))
    one_by_one = Heard().hear(raw).check()
    at_once = Heard().hear([b"".join(raw)])
    assert at_once.wire == one_by_one.wire
    assert at_once.output[0]["content"][0]["text"] == "".join(deltas)
    if not shift:
        assert b"".join(raw[2:-1]) in at_once.wire
    socket = Heard(sink=SocketSink(b'"lane"')).feed(b"".join(raw))
    messages = [json.loads(text) for texts in socket.taken for text in texts]
    assert [{"stream_id": "lane", **one} for one in one_by_one.events][:-1] == messages


def test_a_run_does_not_swallow_what_is_no_part_of_it() -> None:
    """Between two deltas: another number, another item, another member, a comment, something of no event at all."""
    good = [event("output_text.delta", n, **_fields(HELLO[4])) for n in range(4, 12)]
    odd = [
        good[3].replace(b'"sequence_number":7', b'"sequence_number":6'),
        good[3].replace(b"msg_1", b"msg_2"),
        good[3].replace(b'"Hel"', b'"Hel","delta":"x"'),
        b": comment\n" + good[3],
        good[3].replace(b"\n\n", b"\nid: 4\n\n"),
        good[3].replace(b"Hel", b"\\u0041"),
    ]
    for one in odd:
        alone = Heard().feed(*HELLO[:4], *good[:3], one, *good[4:])
        together = Heard().feed(*HELLO[:4], good[0], b"".join([*good[1:3], one, *good[4:]]))
        assert together.wire == alone.wire
        assert len(oracle.parse_sse(together.wire + b"data: [DONE]\n\n")) == 12


def test_a_number_first_run_stops_at_another_number() -> None:
    raw = [_number_first(one) for one in stream(*text_frames(*"abcdef"))]
    raw[6] = raw[6].replace(b'"sequence_number":6', b'"sequence_number":60')
    together = Heard().feed(*raw[:5], b"".join(raw[5:9]))
    assert together.wire == Heard().feed(*raw[:9]).wire
    assert [one["sequence_number"] for one in oracle.parse_sse(together.wire + b"data: [DONE]\n\n")] == list(range(9))


def test_a_run_is_not_learnt_from_unusual_deltas() -> None:
    def learn(payload: bytes, number: int = 3) -> Run | None:
        return Run.learn("response.output_text.delta", payload, number, True, bytearray())

    assert learn(b'{"delta":"a","sequence_number":3}') is not None
    assert learn(b'{"delta": "a","sequence_number":3}') is None
    assert learn(b'{"delta":"a","sequence_number": 3}') is None
    assert learn(b'{"delta":"a","delta":"b","sequence_number":3}') is None
    assert learn(b'{"obfuscation":"x","delta":"a","sequence_number":3}') is None
    assert learn(b'{"delta":"a","sequence_number":3,"obfuscation":"x"}') is None


@pytest.mark.parametrize("padding", [b"", b',"obfuscation":"x1"'], ids=["", "padded"])
@pytest.mark.parametrize("number_first", [True, False])
def test_a_passage_ends_where_the_run_does(number_first: bool, padding: bytes) -> None:
    """Whatever stands in the place of an event of a block of twelve: what precedes it passes, and nothing else."""

    def payload(text: bytes, number: int) -> bytes:
        member = b'"sequence_number":%d' % number
        parts = (
            (member, b'"delta":"%b"%b' % (text, padding))
            if number_first
            else (b'"delta":"%b"%b' % (text, padding), member)
        )
        return b'{"type":"t",%b,%b,"z":0}' % parts

    def framed(data: bytes) -> bytes:
        return b"event: t\ndata: %b\n\n" % data

    odd = [
        b"",
        payload(b"d", 70),
        payload(b'd"', 7),
        payload(b"\\ud800", 7),
        payload(b"d", 7)[:-1] + b',"more":1}',
        payload(b"d", 7).replace(b'"delta"', b'"other"'),
        payload(b"d\n", 7),
        payload(b"d\x1f", 7),
        payload(b"d\\x", 7),
        payload(b"d\xff", 7),
        payload(b"d", 7) + b" ",
        *([payload(b"d", 7).replace(b"obfuscation", b"o")] if padding else []),
    ]
    for at in (0, 1, 5, 11):
        for data in odd:
            run = Run.learn("t", payload(b"first", 3), 3, True, bytearray())
            assert run is not None
            events = [framed(payload(b"t%d" % number, number)) for number in range(4, 16)]
            events[at] = framed(data.replace(b'"sequence_number":7', b'"sequence_number":%d' % (4 + at)))
            passage = run.passage(b"".join(events), 4, 4)
            whole = b"".join(events[:at])
            texts = [b"t%d" % number for number in range(4, 4 + at)]
            assert passage == ((at, len(whole), sum(map(len, texts)), whole) if at else None)
            assert run.said == b"".join(texts)


@pytest.mark.parametrize("number", ["", '"sequence_number":"7"', '"sequence_number":null'])
def test_deltas_without_a_usable_number_are_numbered(number: str) -> None:
    usual = [re.sub(rb',?"sequence_number":\d+', (number and "," + number).encode(), one) for one in HELLO]
    heard = Heard().hear([b"".join(usual)])
    heard.check()
    assert heard.wire == Heard().hear(usual).wire
    assert heard.output[0]["content"][0]["text"] == 'Hello wor\nld "q"!'


@pytest.mark.parametrize("bad", [b"\xff", b"\x01", b"\\q"])
def test_a_run_passes_nothing_that_is_no_json(bad: bytes) -> None:
    """Whether it comes alone, or among others."""
    deltas = [event("output_text.delta", n, **_fields(HELLO[4])) for n in range(4, 12)]
    broken = deltas[4].replace(b"Hel", bad)
    for reads in ([*deltas[1:4], broken], [b"".join([*deltas[1:4], broken, *deltas[5:]])]):
        heard = Heard().feed(*HELLO[:4], deltas[0])
        with pytest.raises(RelayError, match="no JSON"):
            heard.feed(*reads)
        assert bad not in heard.wire


def test_deltas_that_never_repeat_are_not_learnt_for_ever() -> None:
    frames = [
        (name, {**fields, "logprobs": [{"token": "a", "logprob": -n, "bytes": [97], "top_logprobs": []}]})
        if name == "output_text.delta"
        else (name, fields)
        for n, (name, fields) in enumerate(text_frames(*"abcdefghijklmnopqrstuvwxyz"))
    ]
    heard = Heard().hear([b"".join(stream(*frames))])
    assert heard.output[0]["content"][0]["text"] == "abcdefghijklmnopqrstuvwxyz"
    assert heard.translator._run is None


# --- what is put in


def test_pain_1_missing_announcements_and_ends_are_put_in() -> None:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    heard = Heard().hear(
        renamed(
            [
                ("output_text.delta", {**place, "delta": "a"}),
                ("output_text.delta", {**place, "delta": "b"}),
                ("completed", response("completed", usage=USAGE)),
            ]
        )
    )
    heard.check()
    assert heard.names == [
        *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert heard.output[0]["id"] == "msg_1"


def test_pain_3_changing_ids_become_the_first_one() -> None:
    frames = text_frames("a", "b")
    for number, (_, fields) in enumerate(frames):
        if "item_id" in fields:
            fields["item_id"] = f"capture-{number}"
        elif number:
            fields["item"] = {**fields["item"], "id": "another"}
    heard = Heard().hear(stream(*frames)).check()
    assert {one["item_id"] for one in heard.events if "item_id" in one} == {"msg_1"}
    assert heard.output[0]["id"] == "msg_1"


def test_ids_that_openai_would_not_take_back_are_replaced() -> None:
    heard = Heard().hear(stream(*text_frames("a", item={**MESSAGE, "id": "x" * 65}))).check()
    assert heard.output[0]["id"] == "msg_000000000000000000000001"


def test_call_ids_used_before_are_replaced_where_the_relay_owns_the_conversation() -> None:
    """Bedrock-Mantle calls every first call of a response ``call_0``."""
    frames = stream(*call_frames("{}"))
    heard = Heard()
    heard.emitter.call_ids.add("call_1")
    heard.hear(frames).check()
    assert heard.output[0]["call_id"] == "call_000000000000000000000001"
    assert [one["item"]["call_id"] for one in heard.events if "item" in one] == [heard.output[0]["call_id"]] * 2
    theirs = Heard(holds_state=True)
    theirs.emitter.call_ids.add("call_1")
    assert theirs.hear(frames).output[0]["call_id"] == "call_1"


def test_an_output_index_is_given_once() -> None:
    """An upstream that counts from 7, and one that gives an index twice."""
    heard = Heard().hear(stream(*text_frames("a", index=7), *call_frames("{}", index=9))).check()
    assert [one["output_index"] for one in said(heard, "output_item.added")] == [0, 1]
    again = stream(*text_frames("a"), *text_frames("b", item={**MESSAGE, "id": "msg_2"}))
    heard = Heard().hear(again)
    assert [item["content"][0]["text"] for item in heard.output] == ["a", "b"]
    heard.check()


def test_an_item_is_found_by_its_id_where_its_index_changes() -> None:
    frames = stream(*text_frames("a"))
    frames[2] = event("output_item.added", 2, output_index=3, item=MESSAGE)
    assert len(Heard().hear(frames).check().output) == 1


def test_members_that_clients_need_are_put_in() -> None:
    frames = text_frames("a", "b")
    for name, fields in frames:
        fields.pop("logprobs", None)
        if "part" in fields:
            fields["part"] = {"type": "output_text", "text": fields["part"]["text"]}
        if name == "output_item.done":
            fields["item"] = {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "ab"}]}
    heard = Heard().hear(stream(*frames)).check()
    assert heard.output[0]["content"] == [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}]
    assert (heard.output[0]["role"], heard.output[0]["status"]) == ("assistant", "completed")


def test_what_is_announced_with_its_content_is_not_read_twice() -> None:
    frames = call_frames('{"a":', "1}")
    frames[0] = ("output_item.added", {"output_index": 0, "item": {**CALL, "arguments": '{"a":1}'}})
    heard = Heard().hear(stream(*frames)).check()
    assert said(heard, "output_item.added")[0]["item"]["arguments"] == ""
    texts = text_frames("a")
    texts[1][1]["part"] = {"type": "output_text", "text": "a", "annotations": []}
    Heard().hear(stream(*texts)).check()


def test_texts_that_were_not_streamed_are_said_as_one_delta() -> None:
    frames = [frame for frame in text_frames("Hello") if not frame[0].endswith("delta")]
    heard = Heard().hear(stream(*frames)).check()
    assert [one["delta"] for one in said(heard, "output_text.delta")] == ["Hello"]
    calls = Heard().hear(stream(call_frames("{}")[0], call_frames("{}")[-1])).check()
    assert [one["delta"] for one in said(calls, "function_call_arguments.delta")] == ["{}"]
    ended = Heard().hear(stream(text_frames("Hello")[-1])).check()
    assert [one["delta"] for one in said(ended, "output_text.delta")] == ["Hello"]


def test_a_part_that_ends_without_its_text_event() -> None:
    """ogx-ai/ogx#5309: ``output_text.done`` is never sent; annotations are announced with it."""
    note = {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 1}
    frames = [frame for frame in text_frames("ab") if frame[0] != "output_text.done"]
    frames[3][1]["part"] = {**frames[3][1]["part"], "annotations": [note]}
    frames[4][1]["item"]["content"] = [frames[3][1]["part"]]
    heard = Heard().hear(stream(*frames)).check()
    assert [one["annotation"] for one in said(heard, "output_text.annotation.added")] == [note]


def test_annotations_keep_their_place() -> None:
    note = {"type": "url_citation", "url": "https://a", "title": "A", "start_index": 0, "end_index": 1}
    frames = text_frames("ab")
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    frames.insert(3, ("output_text.annotation.added", {**place, "annotation": note, "annotation_index": 0}))
    for at in (5, 6):
        for holder in (frames[at][1].get("part"), *(frames[at][1].get("item") or {}).get("content", [])):
            if holder is not None:
                holder["annotations"] = [note]
    assert Heard().hear(stream(*frames)).check().output[0]["content"][0]["annotations"] == [note]
    unfinished = Heard().hear(renamed(frames[:4]))
    assert unfinished.check().output[0]["content"][0]["annotations"] == [note]


def test_items_that_only_the_last_event_has_are_said() -> None:
    """Also ``output: []`` at the end, as the ChatGPT backend has it: the items that were said stand for it."""
    whole = [fields["item"] for name, fields in call_frames("{}") if name == "output_item.done"]
    frames = text_frames("a")
    heard = Heard().hear(stream(*frames, output=[frames[-1][1]["item"], *whole])).check()
    assert [item["type"] for item in heard.output] == ["message", "function_call"]
    empty = Heard().hear(stream(*frames, output=[])).check()
    assert empty.output == heard.output[:1]


def test_hosted_tools_take_all_their_steps() -> None:
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed"}
    action = {"action": {"type": "search", "query": "x", "queries": ["x"]}}
    added = ("output_item.added", {"output_index": 0, "item": {**search, **action, "status": "in_progress"}})
    step = ("web_search_call.in_progress", {"item_id": "ws_1", "output_index": 0})
    middle = ("web_search_call.searching", {"item_id": "ws_1", "output_index": 0})
    done = ("output_item.done", {"output_index": 0, "item": {**search, **action}})
    for frames in ([done], [added, done], [added, step, middle, done]):
        heard = Heard().hear(stream(*frames)).check()
        steps = [name for name in heard.names if name.startswith("web_search_call")]
        assert steps == [f"web_search_call.{name}" for name in ("in_progress", "searching", "completed")]
    failed = {**search, **action, "status": "failed"}
    quiet = Heard().hear(stream(added, ("output_item.done", {"output_index": 0, "item": failed})))
    assert not [name for name in quiet.names if name.startswith("web_search_call")]


def test_code_of_an_interpreter_keeps_its_deltas() -> None:
    item: Json = {"id": "ci_1", "type": "code_interpreter_call", "container_id": "c", "outputs": None}
    place = {"item_id": "ci_1", "output_index": 0}
    frames: list[tuple[str, Json]] = [
        ("output_item.added", {"output_index": 0, "item": {**item, "code": "", "status": "in_progress"}}),
        ("code_interpreter_call.in_progress", place),
        ("code_interpreter_call_code.delta", {**place, "delta": "1+"}),
        ("code_interpreter_call_code.delta", {**place, "delta": "1"}),
    ]
    ended = [
        ("code_interpreter_call_code.done", {**place, "code": "1+1"}),
        ("code_interpreter_call.interpreting", place),
        ("code_interpreter_call.completed", place),
        ("output_item.done", {"output_index": 0, "item": {**item, "code": "1+1", "status": "completed"}}),
    ]
    assert Heard().hear(stream(*frames, *ended)).check().output[0]["code"] == "1+1"
    cut = Heard().hear(renamed(frames)).check()
    assert (cut.output[0]["code"], cut.output[0]["status"]) == ("1+1", "incomplete")


def test_repeated_events_are_dropped() -> None:
    frames = [frame for frame in text_frames("a", "b") for _ in range(1 if frame[0].endswith("delta") else 2)]
    heard = Heard().hear(stream(*frames)).check()
    assert heard.translator.ignored == 5
    late = text_frames("a", "b")
    late.insert(-2, late.pop(3))  # a delta behind its text.done
    assert Heard().hear(stream(*late)).output[0]["content"][0]["text"] == "ab"
    Heard().hear(stream(*late)).check()


def test_events_of_items_that_are_over_are_dropped() -> None:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    note = {"annotation": {"type": "file_path"}, "annotation_index": 0}
    part = {"part": {"type": "output_text", "text": "x", "annotations": []}}
    late = [
        ("output_text.delta", {**place, "delta": "x"}),
        ("output_text.done", {**place, "text": "x"}),
        ("output_text.annotation.added", {**place, **note}),
        ("content_part.added", {**place, **part}),
        ("content_part.done", {**place, **part}),
    ]
    heard = Heard().hear(stream(*text_frames("a"), *late)).check()
    assert heard.translator.ignored == 5


def test_parts_of_kinds_that_are_not_known_pass() -> None:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    frames = text_frames("a")
    frames[1:5] = [("content_part.added", {**place, "part": {"type": "hologram"}}), ("content_part.done", {**place})]
    frames[-1][1]["item"]["content"] = [{"type": "hologram"}]
    heard = Heard().hear(stream(*frames))
    assert heard.names[3:5] == ["content_part.added", "content_part.done"]
    assert heard.output[0]["content"] == [{"type": "hologram"}]


def test_a_second_part_ends_the_first() -> None:
    place = {"item_id": "msg_1", "output_index": 0}
    frames = [
        text_frames()[0],
        ("output_text.delta", {**place, "content_index": 0, "delta": "a"}),
        ("refusal.delta", {**place, "content_index": 4, "delta": "no"}),
        ("refusal.delta", {**place, "content_index": 4, "delta": "!"}),
    ]
    heard = Heard().hear(renamed([*frames, ("incomplete", response("incomplete"))])).check()
    text, refusal = heard.output[0]["content"]
    assert (text["text"], refusal) == ("a", {"type": "refusal", "refusal": "no!"})
    assert heard.final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert heard.output[0]["status"] == "incomplete"


def test_summaries_and_raw_reasoning() -> None:
    raw = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    summary = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
    frames = [
        ("reasoning_text.delta", {**raw, "delta": "hm"}),
        ("reasoning_summary_text.delta", {**summary, "delta": "I hm"}),
    ]
    heard = Heard().hear(renamed(frames)).check()
    item = heard.output[0]
    assert item["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert item["summary"] == [{"type": "summary_text", "text": "I hm"}]
    assert item["status"] == "incomplete"


def test_parts_of_two_places_are_counted_apart() -> None:
    whole = {
        **REASONING,
        "summary": [{"type": "summary_text", "text": "s0"}, {"type": "summary_text", "text": "s1"}],
        "content": [{"type": "reasoning_text", "text": "c0"}, {"type": "reasoning_text", "text": "c1"}],
    }
    heard = Heard().hear(stream(("output_item.done", {"output_index": 0, "item": whole}))).check()
    assert heard.output == [whole]


def test_an_event_without_a_place_belongs_to_the_last_item() -> None:
    frames = [("output_text.delta", {"delta": "a"}), ("output_text.delta", {"delta": "b"})]
    heard = Heard().hear(stream(*frames)).check()
    assert heard.output[0]["content"][0]["text"] == "ab"
    assert heard.output[0]["id"] == "msg_000000000000000000000001"


def test_empty_arguments_of_a_finished_call_are_an_empty_object() -> None:
    frames = call_frames("")
    done = [frame for frame in frames if frame[0].startswith("output_item")]
    assert Heard().hear(stream(*done)).check().output[0]["arguments"] == "{}"
    item = {name: value for name, value in done[1][1]["item"].items() if name != "arguments"}
    told = [frames[0], ("function_call_arguments.delta", {"output_index": 0, "delta": "{}"})]
    heard = Heard().hear(stream(*told, ("output_item.done", {"output_index": 0, "item": item}))).check()
    assert heard.output[0]["arguments"] == "{}"


def test_events_that_say_nothing_are_dropped() -> None:
    frames = stream(("output_item.added", {"output_index": 0}), ("output_item.done", {"output_index": 0, "item": 3}))
    assert Heard().hear(frames).check().translator.ignored == 2


# --- surrogates (decision 24)


def test_a_high_surrogate_waits_for_its_partner() -> None:
    heard = Heard().hear(stream(*text_frames("a\ud83d", "\ude00b", "\ud83d", "c"))).check()
    assert [one["delta"] for one in said(heard, "output_text.delta")] == ["a", "😀b", "\ufffdc"]
    assert heard.output[0]["content"][0]["text"] == "a😀b\ufffdc"
    assert heard.translator.ignored == 1


def test_a_surrogate_that_waits_in_vain_becomes_a_replacement() -> None:
    heard = Heard().hear(renamed(text_frames("a", "\ud83d")[:4])).check()
    assert heard.output[0]["content"][0]["text"] == "a\ufffd"


def test_numbers_and_depths_that_cannot_be_written() -> None:
    item = {**MESSAGE, "id": "x" * 65, "big": 10**30, "huge": 10**400}
    heard = Heard().feed(*HELLO[:2], event("output_item.added", 2, output_index=0, item=item))
    assert json.loads(heard.wire.split(b"data: ")[-1])["item"]["big"] == 1e30
    assert json.loads(heard.wire.split(b"data: ")[-1])["item"]["huge"] is None
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    heard = Heard().hear([*HELLO[:6], event("new", 9, deep=deep)]).check()
    assert heard.error is not None
    assert heard.error.kind == "upstream_bad_response"


# --- the Response


def test_the_response_is_ours_where_the_relay_owns_the_state() -> None:
    heard = Heard({"metadata": {"a": "b"}, "instructions": "be brief", "max_output_tokens": 99})
    heard.hear(stream(*text_frames("a"), previous_response_id="resp_theirs", usage={**USAGE, "cost": 1})).check()
    for one in (heard.events[0]["response"], heard.final):
        assert (one["id"], one["model"], one["store"]) == (f"resp_{0:048x}", "alias", True)
        assert (one["metadata"], one["instructions"], one["max_output_tokens"]) == ({"a": "b"}, "be brief", 99)
        assert one["created_at"] == 1_700_000_001
        assert one["previous_response_id"] is None
    assert heard.final["usage"]["cost"] == 1
    assert heard.final["usage"]["input_tokens_details"] == {"cached_tokens": 0, "cache_write_tokens": 0}
    assert heard.emitter.usage_so_far() == heard.final["usage"]
    assert heard.translator.ready


def test_the_response_is_theirs_where_the_upstream_owns_the_state() -> None:
    heard = Heard(holds_state=True)
    assert not heard.translator.ready
    heard.feed(HELLO[0])
    assert heard.translator.ready
    assert heard.wire == b""
    heard.hear(HELLO[1:]).check()
    assert {one["response"]["id"] for one in heard.events if "response" in one} == {"resp_upstream"}


def test_members_of_the_wrong_kind_are_not_taken_over() -> None:
    odd = {"temperature": "warm", "text": {"format": None}, "reasoning": {"effort": "low"}, "top_p": None}
    late = {"reasoning": {"summary": "auto"}, "completed_at": 1_700_000_005.4, "output_text": "a", "billing": {"p": 1}}
    frames = stream(*text_frames("a"), **late, input_transformations=[{"id": "rs_0", "type": "reasoning"}])
    frames[0] = event("created", 0, **response(**odd))
    final = Heard().hear(frames).final
    assert (final["temperature"], final["top_p"], final["completed_at"]) == (1, 1, 1_700_000_005)
    assert final["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert final["reasoning"] == {"effort": "low", "summary": "auto"}
    assert final["input_transformations"] == [{"id": "rs_0", "type": "reasoning"}]
    assert final["billing"] == {"p": 1}
    assert "output_text" not in final


def test_a_queued_response_is_said_to_be_queued() -> None:
    frames = [("created", response("queued")), ("queued", response("queued")), ("in_progress", response())]
    heard = Heard(holds_state=True)
    heard.hear(renamed([*frames, *text_frames("a"), ("completed", response("completed", background=True))])).check()
    assert heard.names[:3] == ["created", "queued", "in_progress"]
    assert [one["response"]["status"] for one in heard.events[:3]] == ["queued", "queued", "in_progress"]


@pytest.mark.parametrize("details", [None, {"reason": "length"}, "max_tokens"])
def test_pain_23_an_incomplete_response_has_a_reason(details: Any) -> None:
    heard = Heard().hear(stream(*text_frames("a"), status="incomplete", incomplete_details=details)).check()
    assert heard.final["incomplete_details"] == {"reason": "max_output_tokens"}
    filtered = {"reason": "content_filter"}
    heard = Heard().hear(stream(*text_frames("a"), status="incomplete", incomplete_details=filtered))
    assert heard.done is not None
    assert heard.done[:2] == ("incomplete", "content_filter")


def test_odd_endings() -> None:
    """``response.done`` of older servers; a terminal event without a Response; nothing but a terminal event."""
    older = renamed([*text_frames("a"), ("done", response("completed", usage=USAGE))])
    assert Heard().hear(older).check().final["status"] == "completed"
    bare = Heard().hear(renamed([("created", {"response": 3}), *text_frames("a"), ("completed", {})])).check()
    assert bare.final["usage"] is None
    Heard().hear([event("completed", 0, **response("completed", 3))]).check()  # type: ignore[arg-type]


def test_an_ending_that_is_not_known_is_never_a_success() -> None:
    heard = Heard().hear(renamed([*text_frames("a"), ("done", response("cancelled"))])).check()
    assert heard.error is not None
    assert heard.final["status"] == "failed"


def test_the_terminal_event_ends_the_turn() -> None:
    heard = Heard().hear([b"".join(HELLO) + b"".join(HELLO) + b"data: nonsense\n\n"])
    assert heard.names.count("completed") == 1
    assert heard.check().translator.ended


def test_the_last_event_may_lack_its_blank_line() -> None:
    Heard().hear([b"".join(HELLO).rstrip(b"\n")]).check()


# --- whole bodies


def test_a_body_is_said_as_the_events_that_it_sums_up() -> None:
    streamed = Heard().hear(stream(*text_frames("Hello"), *call_frames("{}", index=1)))
    body = response("completed", streamed.output, usage=USAGE)["response"]
    whole = Heard().read(body).check()
    assert whole.final == {**streamed.final, "completed_at": whole.final["completed_at"]}
    quiet = Heard({"stream": False}, sink=NullSink())
    quiet.translator.from_body({**body, "output": [*body["output"], None]})
    quiet.done = quiet.translator.close()
    assert quiet.done.response is not None
    assert quiet.emitter.conclude_with(quiet.done.response)["output"] == streamed.output


def test_a_background_response_comes_back_queued() -> None:
    heard = Heard({"stream": False, "background": True}, holds_state=True)
    heard.translator.from_body(response("queued")["response"])
    done = heard.translator.close()
    assert (done.status, done.response and done.response["id"]) == ("queued", "resp_upstream")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "Slow down", "code": 429}}, "rate_limited"),
        ({"error": "out of memory"}, "upstream_error"),
        (response("failed", error={"code": "server_error", "message": "x"})["response"], "upstream_error"),
        (response("failed")["response"], "upstream_error"),
        ({"object": "chat.completion"}, "upstream_bad_response"),
    ],
)
def test_bodies_that_are_no_answer(body: Json, kind: str) -> None:
    heard = Heard().read(body)
    assert heard.error is not None
    assert (heard.error.kind, heard.emitter.started) == (kind, False)


# --- failures


def failure(content: Json, *before: bytes) -> Heard:
    return Heard().hear([*before, b"event: error\ndata: " + json.dumps(content).encode() + b"\n\n"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "rate_limit_exceeded", "message": "Please try again in 2s."}, "rate_limit_exceeded"),
        ({"code": "context_length_exceeded", "message": "too long"}, "context_length_exceeded"),
        ({"code": "insufficient_quota", "message": "quota"}, "insufficient_quota"),
        ({"code": "server_is_overloaded", "message": "busy"}, "server_is_overloaded"),
        ({"code": "vector_store_timeout", "message": "late"}, "vector_store_timeout"),
        ({"code": "whatever", "message": "odd"}, "server_error"),
        ({"type": "server_error", "message": None}, "server_error"),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_pain_20_21_an_error_inside_is_one_response_failed(error: Json, code: str, flat: bool) -> None:
    content = {"type": "error", "sequence_number": 6, **(error if flat else {"error": error})}
    heard = failure(content, *HELLO[:6]).check()
    assert heard.names[-1] == "failed"
    assert "error" not in heard.names
    assert heard.final["error"]["code"] == code
    assert heard.final["error"]["message"]
    assert heard.output[0]["content"][0]["text"] == "Hello"
    assert heard.output[0]["status"] == "incomplete"


def test_an_error_before_anything_was_said_is_an_http_error() -> None:
    heard = failure({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "x"}}, *HELLO[:2])
    assert heard.error is not None
    assert (heard.error.status, heard.error.code, heard.wire) == (429, "rate_limit_exceeded", b"")


def test_a_failed_response_is_held_and_its_usage_kept() -> None:
    failed = event("failed", 6, **response("failed", error={"code": "invalid_prompt", "message": "no"}, usage=USAGE))
    heard = Heard().hear([*HELLO[:6], failed]).check()
    assert heard.final["error"] == {"code": "invalid_prompt", "message": "no"}
    assert heard.final["usage"]["total_tokens"] == 7
    perplexity = event("failed", 6, **response("failed"), error={"message": "down"})
    assert Heard().hear([*HELLO[:6], perplexity]).check().final["error"]["message"] == "down"


@pytest.mark.parametrize("cut", range(1, 10))
def test_pain_22_a_stream_without_its_end_is_a_failure(cut: int) -> None:
    heard = Heard().hear([*HELLO[:cut], b"data: [DONE]\n\n", b"data: \n\n"])
    assert heard.error is not None
    assert heard.error.kind == "upstream_ended_early"
    if heard.emitter.started:
        heard.check()
    assert heard.emitter.started is (cut > 2)


@pytest.mark.parametrize("garbage", [b"data: <html>\n\n", b"data: [1]\n\n", b'data: {"a":"\xff"}\n\n', b"data: {\n\n"])
def test_garbage_is_an_error(garbage: bytes) -> None:
    heard = Heard().hear([*HELLO[:5], garbage]).check()
    assert heard.error is not None
    assert heard.error.kind == "upstream_bad_response"


def test_an_unnamed_error_object_is_an_error() -> None:
    heard = Heard().hear([*HELLO[:5], b'data: {"error":{"message":"Overloaded","code":503}}\n\n']).check()
    assert heard.final["error"]["code"] == "server_is_overloaded"


def test_every_kind_of_open_item_is_closed() -> None:
    custom = {
        "id": "ctc_1",
        "type": "custom_tool_call",
        "call_id": "call_9",
        "name": "p",
        "input": "",
        "status": "in_progress",
    }
    image = {"id": "ig_1", "type": "image_generation_call", "status": "in_progress", "result": None}
    frames = [
        call_frames("{")[0],
        ("function_call_arguments.delta", {"item_id": "fc_1", "output_index": 0, "delta": '{"a'}),
        ("output_item.added", {"output_index": 1, "item": custom}),
        ("output_item.added", {"output_index": 2, "item": image}),
        ("output_item.added", {"output_index": 3, "item": {**MESSAGE, "id": "msg_9"}}),
        ("output_item.added", {"output_index": 4, "item": REASONING}),
    ]
    heard = Heard().hear(renamed(frames)).check()
    assert [item["status"] for item in heard.output] == [
        "incomplete",
        "incomplete",
        "failed",
        "incomplete",
        "incomplete",
    ]
    assert heard.output[0]["arguments"] == '{"a'


# --- bounds


def test_the_retained_output_is_bounded() -> None:
    frames = stream(*text_frames(*["x" * 100] * 200))
    assert Heard(limit_bytes=30_000).hear(frames).error is None
    for pieces in (frames, [b"".join(frames)]):
        heard = Heard(limit_bytes=10_000).hear(pieces)
        assert heard.error is not None
        assert heard.error.kind == "output_too_large"


def assert_heard_in_linear_time(reads_of: Callable[[int], list[bytes]], size: int) -> None:
    """Making what an upstream says costs ten times what hearing it does: it is made before."""
    reads = {count: reads_of(count) for count in (size, 2 * size)}
    assert_linear(lambda count: Heard().hear(reads[count]), size)


def test_time_is_linear_in_the_deltas() -> None:
    def reads(count: int) -> list[bytes]:
        frames = b"".join(stream(*text_frames(*["ab"] * count)))
        return [frames[at : at + 16_384] for at in range(0, len(frames), 16_384)]

    assert_heard_in_linear_time(reads, 20_000)


def test_time_is_linear_where_short_runs_alternate() -> None:
    """Two calls by turns, two deltas each, all in one piece of some megabytes."""

    def reads(count: int) -> list[bytes]:
        first, second = call_frames("{}"), call_frames("{}", index=1, item={**CALL, "id": "fc_2", "call_id": "call_2"})
        turns = [first[0], second[0], *[first[1], first[1], second[1], second[1]] * count]
        return [b"".join(renamed([("created", response()), *turns]))]

    assert_heard_in_linear_time(reads, 2_000)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "only at the end"])
def test_time_is_linear_in_the_parts_of_one_item(streamed: bool) -> None:
    def reads(count: int) -> list[bytes]:
        added, opened, delta, *_, done = text_frames("a")
        done[1]["item"]["content"] *= count
        each = [(name, {**fields, "content_index": n}) for n in range(count) for name, fields in (opened, delta)]
        return [b"".join(stream(added, *(each if streamed else []), done))]

    assert_heard_in_linear_time(reads, 1_000)


def test_reads_after_an_error_do_not_matter() -> None:
    heard = Heard()
    with pytest.raises(RelayError):
        heard.feed(*HELLO[:3], b"data: x\n\n")


def both(item: Json, **body: Any) -> list[Json]:
    """The output of an answer that has this one item: announced, only ended, only in the last event, in a body."""
    request = {"tools": [{"type": "function", "name": "f", "parameters": None}, "odd"][:1], **body}
    added = ("output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress"}})
    done = ("output_item.done", {"output_index": 0, "item": item})
    heard = [Heard(request).hear(stream(*frames)).check() for frames in ([added, done], [done])]
    heard.append(Heard(request).hear(stream(output=[item])).check())
    heard.append(Heard({**request, "stream": False}).read(response("completed", [item])["response"]))
    return [one.output[0] for one in heard]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("f<|channel|>commentary", "f"), ("functions.f", "f"), ("f", "f"), ("g", "g"), ("<|channel|>", "<|channel|>")],
)
def test_marks_of_a_template_are_no_part_of_a_name(name: str, meant: str) -> None:
    """vllm-project/vllm#32587, through vLLM's own /v1/responses."""
    call = {**CALL, "name": name, "arguments": "{}", "status": "completed"}
    assert [item["name"] for item in both(call)] == [meant] * 4
    frames = [
        ("output_item.added", {"output_index": 0, "item": {**CALL, "name": name}}),
        ("function_call_arguments.done", {"output_index": 0, "item_id": "fc_1", "name": name, "arguments": "{}"}),
        ("output_item.done", {"output_index": 0, "item": call}),
    ]
    heard = Heard({"tools": [{"type": "function", "name": "f", "parameters": None}]}).hear(stream(*frames)).check()
    assert [event["name"] for event in heard.events if "name" in event] == [meant]


@pytest.mark.parametrize(("arguments", "text"), [({"x": "1"}, '{"x":"1"}'), ([1], "[1]"), ({}, "{}"), (None, "{}")])
def test_arguments_as_an_object_are_its_json(arguments: Any, text: str) -> None:
    """Decision 48's rule of chat servers, for those that speak Responses."""
    for item in both({**CALL, "arguments": arguments, "status": "completed"}):
        assert item["arguments"] == text


def test_content_as_a_string_is_a_text() -> None:
    message = {**MESSAGE, "status": "completed", "content": "Hello."}
    for item in both(message):
        assert [(part["type"], part["text"]) for part in item["content"]] == [("output_text", "Hello.")]
    for item in both({**REASONING, "summary": "Hm."}):
        assert [(part["type"], part["text"]) for part in item["summary"]] == [("summary_text", "Hm.")]


@pytest.mark.parametrize("more", [{}, {"input_tokens": 0, "output_tokens": 0}])
def test_counts_under_the_names_of_chat_are_read(more: Json) -> None:
    """The names of openai-python's CompletionUsage."""
    told = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    usage = Heard().hear(stream(*text_frames("x"), usage={**told, **more})).final["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (5, 2, 7)
    assert usage["input_tokens_details"]["cached_tokens"] == 3
    assert usage["output_tokens_details"]["reasoning_tokens"] == 1
