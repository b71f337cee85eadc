"""Items as Anthropic messages: turns, calls, thoughts put back byte for byte, media, and prefixes that stay.

Source: translation.md §2 (column B) and §6; decisions 14, 22, 25, 27.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from anthropic.types import MessageCreateParams
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from relay.errors import RelayError
from relay.providers.anthropic import PROVIDER
from relay.providers.anthropic_blocks import members, source, with_members
from relay.providers.anthropic_messages import CONTINUE, MARKER
from relay.providers.base import Media, Target
from relay.providers.turns import OPENING
from relay.responses.envelope import seal, unseal
from tests.providers import anthropic_support as upstream
from tests.providers.anthropic_support import NEWEST, Json, build, hear, parsed, sent

OLD = "claude-sonnet-4-6"
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)


def user(*texts: str) -> Json:
    return {"role": "user", "content": [{"type": "input_text", "text": text} for text in texts]}


def assistant(text: str) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def function_call(call_id: str, name: str = "look", arguments: str = "{}") -> Json:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def result(call_id: str, output: Any = "found", **more: Any) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output, **more}


def thinking(*blocks: str, model: str = NEWEST, family: str = "anthropic", identifier: str = "rs_1") -> Json:
    return {
        "type": "reasoning",
        "id": identifier,
        "summary": [],
        "encrypted_content": seal(family, model, list(blocks)),
    }


def said(items: list[Any], **options: Any) -> list[tuple[str, list[Json]]]:
    """The messages as (role, blocks)."""
    return [(message["role"], message["content"]) for message in sent({"input": items}, **options)["messages"]]


def text(value: str) -> Json:
    return {"type": "text", "text": value}


def tool_use(call_id: str, name: str = "look", given: Json | None = None) -> Json:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given or {}}


def tool_result(call_id: str, content: Any = "found", **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


THOUGHT = '{"type":"thinking","thinking":"caf\\u00e9  \\n","signature":"c2ln+/=="}'
REDACTED = '{"type": "redacted_thinking", "data": "b3BhcXVl"}'


# --- turns


def test_blank_text_is_left_out() -> None:
    assert said([user("a", " ", ""), user("\n")]) == [("user", [text("a")])]


def test_neighbours_of_one_role_are_one_message() -> None:
    items = [user("a"), user("b"), assistant("c"), assistant("d"), user("e")]
    assert said(items) == [
        ("user", [text("a"), text("b")]),
        ("assistant", [text("c"), text("d")]),
        ("user", [text("e")]),
    ]


def test_blank_words_between_assistants_are_nothing() -> None:
    items = [user("a"), assistant("b"), user(" "), thinking(THOUGHT), assistant("c"), user("d")]
    call = build({"input": items})
    assert json.loads(call.body)["messages"][1]["content"] == [text("b"), json.loads(THOUGHT), text("c")]
    assert call.context.paths == {"messages.1.content.1": "rs_1"}


def test_lone_surrogates_are_replaced() -> None:
    assert said([user("a\ud83d")]) == [("user", [text("a\ufffd")])]
    assert sent({"input": [user("a")], "instructions": "\ud83d"})["system"] == [text("\ufffd")]


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = ["example.com"]
    for _ in range(300):
        deep = [deep]
    tool = {"type": "web_search", "filters": {"allowed_domains": deep}}
    with pytest.raises(RelayError) as caught:
        build({"tools": [tool]})
    assert caught.value.status == 400


def test_refusals_are_text() -> None:
    refused = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert said([user("a"), refused, user("b")])[1] == ("assistant", [text("No.")])


def test_an_assistant_who_begins_gets_a_user_before() -> None:
    assert said([assistant("a"), user("b")])[0] == ("user", [text(OPENING)])


def test_case_38_a_list_that_ends_with_the_assistant_gets_a_user_message() -> None:
    for model in ("claude-opus-5", OLD):
        assert said([user("a"), assistant("b")], model=model)[-1] == ("user", [text(CONTINUE)])
    assert [param for param, _ in build({"input": [user("a"), assistant("b")]}).warnings] == ["input"]


def test_leading_system_texts_are_top_level() -> None:
    items = [{"role": "system", "content": "one"}, {"role": "developer", "content": "two"}, user("a")]
    body = sent({"input": items, "instructions": "zero"})
    assert body["system"] == [text("zero"), text("one"), text("two")]
    assert len(body["messages"]) == 1
    assert "system" not in sent({"input": [user("a")], "instructions": " "})


def test_case_31_later_developer_messages() -> None:
    note = {"role": "developer", "content": "be brief"}
    items = [user("a"), note, assistant("b"), note, note, user("c"), assistant("d"), note]
    assert said(items, model="claude-opus-5") == [
        ("user", [text("a")]),
        ("system", [text("be brief")]),
        ("assistant", [text("b")]),
        ("user", [text("c")]),
        ("system", [text("be brief"), text("be brief")]),
        ("assistant", [text("d")]),
        ("user", [text(MARKER + "be brief")]),
    ]
    marked = text(MARKER + "be brief")
    assert said(items, model=OLD) == [
        ("user", [text("a"), marked]),
        ("assistant", [text("b")]),
        ("user", [marked, marked, text("c")]),
        ("assistant", [text("d")]),
        ("user", [marked]),
    ]
    google = "https://aiplatform.googleapis.com/v1/publishers/anthropic"
    assert said(items, model="claude-opus-5", base_url=google)[1][0] == "assistant"


def test_a_system_text_between_assistants_becomes_a_user_turn() -> None:
    items = [user("a"), assistant("b"), {"role": "system", "content": "x"}, assistant("c"), user("d")]
    assert said(items)[2] == ("user", [text(MARKER + "x")])


# --- calls


def test_case_18_results_come_first_in_the_order_of_the_calls() -> None:
    items = [
        user("go"),
        function_call("a"),
        function_call("b"),
        assistant("meanwhile"),
        result("b", "2"),
        user("and"),
        result("a", "1"),
    ]
    assert said(items) == [
        ("user", [text("go")]),
        ("assistant", [text("meanwhile"), tool_use("a"), tool_use("b")]),
        ("user", [tool_result("a", "1"), tool_result("b", "2"), text("and")]),
    ]


def test_rounds_stay_rounds() -> None:
    items = [user("go"), function_call("a"), result("a"), function_call("b"), result("b")]
    assert [role for role, _ in said(items)] == ["user", "assistant", "user", "assistant", "user"]


def test_case_33_call_ids_are_rewritten_on_both_sides() -> None:
    items = [user("go"), function_call("functions.x:0"), function_call("functions_x_0"), result("functions.x:0")]
    _, calls, results = said([*items, result("functions_x_0", "2")])
    assert [block["id"] for block in calls[1]] == ["functions_x_0", "functions_x_0_2"]
    assert [(block["tool_use_id"], block["content"]) for block in results[1]] == [
        ("functions_x_0", "found"),
        ("functions_x_0_2", "2"),
    ]


def test_ids_used_again_in_a_later_turn_are_kept_apart() -> None:
    items = [user("go"), function_call("call_0"), result("call_0", "1"), function_call("call_0"), result("call_0", "2")]
    messages = said(items)
    assert [messages[1][1][0]["id"], messages[3][1][0]["id"]] == ["call_0", "call_0_2"]
    assert [messages[2][1][0]["tool_use_id"], messages[4][1][0]["tool_use_id"]] == ["call_0", "call_0_2"]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        ("[1]", {"_raw": "[1]"}),
        ('{"a":', {"_raw": '{"a":'}),
        ('{"a": NaN}', {"_raw": '{"a": NaN}'}),
        ('"\ud83d"', {"_raw": '"\ufffd"'}),
    ],
)
def test_arguments_are_an_object(arguments: str, given: Json) -> None:
    assert said([user("go"), function_call("a", arguments=arguments), result("a")])[1][1] == [
        tool_use("a", given=given)
    ]


def test_arguments_keep_the_bytes_of_the_model() -> None:
    arguments = '{"n": 1.0, "big": 123456789012345678901234567890, "e": 1E5}'
    body = build({"input": [user("go"), function_call("a", arguments=arguments), result("a")]}).body
    assert b'"input":' + arguments.encode() + b"}" in body


def test_emulated_calls_and_outputs() -> None:
    items = [
        user("go"),
        {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": "*** x"},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
        {"type": "shell_call", "call_id": "b", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "b", "output": [{"stdout": "a"}]},
    ]
    messages = said(items)
    assert messages[1][1] == [tool_use("a", "patch", {"input": "*** x"})]
    assert messages[2][1] == [tool_result("a", "done")]
    assert messages[3][1] == [tool_use("b", "shell", {"commands": ["ls"]})]


def test_outputs() -> None:
    empty = {"type": "tool_result", "tool_use_id": "a"}
    base = [user("go"), function_call("a")]
    assert said([*base, result("a", "")])[2][1] == [empty]
    assert said([*base, result("a", [{"type": "input_text", "text": " "}])])[2][1] == [empty]
    assert said([*base, result("a", "x", status="incomplete")])[2][1] == [tool_result("a", "x", is_error=True)]


def test_case_25_an_image_inside_an_output() -> None:
    parts = [{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": PNG}]
    file = {"type": "input_file", "filename": "a.txt", "file_data": base64.b64encode(b"hello").decode()}
    (block,) = said([user("go"), function_call("a"), result("a", [*parts, file])])[2][1]
    picture = {"type": "base64", "media_type": "image/png", "data": PNG.partition(",")[2]}
    document = {"type": "text", "media_type": "text/plain", "data": "hello"}
    assert block["content"] == [
        text("see"),
        {"type": "image", "source": picture},
        {"type": "document", "source": document, "title": "a.txt"},
    ]


# --- thoughts


def test_case_16_an_omitted_thought_goes_back_as_it_came() -> None:
    omitted = '{"type":"thinking","thinking":"","signature":"c2ln"}'
    heard = hear(
        upstream.start() + upstream.thought(0, "c2ln") + upstream.call(1, "toolu_1", "look", "{}") + upstream.end(),
        context=upstream.Context(model=NEWEST),
    )
    assert heard.kinds == ["reasoning", "function_call"]
    assert heard.output[0]["summary"] == []
    call = build({"input": [user("go"), *heard.output, result("toolu_1")]})
    assert b'{"role":"assistant","content":[' + omitted.encode() + b',{"type":"tool_use"' in call.body
    assert json.loads(call.body)["messages"][2]["content"] == [tool_result("toolu_1")]


def test_thoughts_go_back_byte_for_byte_in_their_place() -> None:
    items = [
        user("go"),
        thinking(THOUGHT),
        thinking(REDACTED, identifier="rs_2"),
        assistant("look"),
        function_call("a"),
        result("a"),
    ]
    call = build({"input": items})
    head = f'"role":"assistant","content":[{THOUGHT},{REDACTED},{{"type":"text","text":"look"}},{{"type":"tool_use"'
    assert head.encode() in call.body
    assert call.context.paths == {"messages.1.content.0": "rs_1", "messages.1.content.1": "rs_2"}
    assert call.transformations == ()


def test_thoughts_of_another_model_are_left_out_and_said() -> None:
    items = [user("go"), thinking(THOUGHT, model="claude-opus-5"), assistant("b"), user("c")]
    call = build({"input": items})
    assert b"thinking" not in call.body
    removed = {"id": "rs_1", "type": "reasoning", "action": "removed", "reason": "model_mismatch"}
    assert call.transformations == (removed,)


def test_the_part_of_an_output_is_named() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    parts = [{"type": "input_text", "text": "see"}, audio]
    with pytest.raises(RelayError) as caught:
        build({"input": [user("go"), function_call("a"), result("a", parts)]})
    assert caught.value.param == "input[2].output[1]"


def test_case_40_foreign_reasoning_is_left_out_and_said() -> None:
    foreign = {"type": "reasoning", "id": "rs_9", "summary": [], "encrypted_content": "gAAAAABo"}
    other = thinking('{"k":"rc"}', family="chat", identifier="rs_8")
    shown = {"type": "reasoning", "id": "rs_7", "summary": [{"type": "summary_text", "text": "hm"}]}
    call = build({"input": [user("go"), foreign, other, shown, assistant("b"), user("c")]})
    assert [entry["id"] for entry in call.transformations] == ["rs_9", "rs_8"]
    assert b"hm" not in call.body


def test_an_envelope_cannot_smuggle_anything() -> None:
    bad = ['{"type":"text","text":"x"}', "nonsense", '{"type":"thinking"}],"model":"x"', "[]", '{"type":5}']
    call = build({"input": [user("go"), thinking(*bad, THOUGHT), assistant("b"), user("c")]})
    assert json.loads(call.body)["messages"][1]["content"] == [json.loads(THOUGHT), text("b")]


def test_no_message_ends_with_a_thought() -> None:
    assert said([user("go"), thinking(THOUGHT), user("b")]) == [("user", [text("go"), text("b")])]
    call = build({"input": [user("go"), assistant("x"), thinking(THOUGHT), user("b")]})
    assert json.loads(call.body)["messages"][1]["content"] == [text("x")]
    assert call.context.paths == {}
    assert said([user("go"), thinking(THOUGHT)]) == [("user", [text("go")])]


def test_a_budget_model_that_shall_not_think_gets_no_thoughts() -> None:
    items = [user("go"), thinking(THOUGHT, model="claude-opus-4-5"), function_call("a"), result("a")]
    none: Json = {"input": items, "reasoning": {"effort": "none"}}
    assert b"signature" not in build(none, model="claude-opus-4-5").body
    assert b"signature" in build({"input": items}, model="claude-opus-4-5").body


def test_the_repair_leaves_all_thoughts_out() -> None:
    items = [user("go"), thinking(THOUGHT), function_call("a"), result("a")]
    call = build({"input": items}, repairs=["thinking"])
    assert b"signature" not in call.body
    assert [param for param, _ in call.warnings] == ["input"]


def test_only_the_current_turn_keeps_its_thoughts_where_asked() -> None:
    first, second = THOUGHT.replace("c2ln", "Zmlyc3Q"), THOUGHT
    items = [user("go"), thinking(first), assistant("a"), user("b"), thinking(second), function_call("a"), result("a")]
    body = build({"input": items, "reasoning": {"context": "current_turn"}}).body
    assert first.encode() not in body
    assert second.encode() in body
    assert first.encode() in build({"input": items, "reasoning": {"context": "all_turns"}}).body


USE = '{"type":"server_tool_use","id":"srvtoolu_1","name":"code_execution","input":{"code":"1"}}'
ANSWER = (
    '{"type":"code_execution_tool_result","tool_use_id":"srvtoolu_1",'
    '"content":{"type":"code_execution_result","stdout":"1","stderr":"","return_code":0,"content":[]}}'
)
CODE = {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "outputs": [{"type": "logs", "logs": "1"}]}


def test_hosted_calls_go_back_as_their_own_blocks() -> None:
    sealed = thinking(USE, ANSWER, model="another-model")
    call = build({"input": [user("go"), CODE, sealed, assistant("b"), user("c")]})
    assert f'"content":[{USE},{ANSWER},'.encode() in call.body
    assert call.transformations == ()
    assert "anthropic-beta" not in dict(call.headers)


def test_hosted_calls_without_their_blocks_are_stood_in_for() -> None:
    for sealed in ([], [thinking(THOUGHT)], [{"type": "reasoning", "id": "rs", "summary": []}]):
        messages = said([user("go"), CODE, *sealed, assistant("b"), user("c")])
        assert messages[1][1][-1] == tool_use("ci_1", "code_interpreter", {"code": "1"})
        assert messages[2][1] == [tool_result("ci_1", "1")]


def test_mcp_blocks_in_the_history_need_the_beta() -> None:
    used = '{"type":"mcp_tool_use","id":"m","name":"ask","server_name":"w","input":{}}'
    got = '{"type":"mcp_tool_result","tool_use_id":"m","is_error":false,"content":[]}'
    call = build({"input": [user("go"), thinking(used, got), assistant("b"), user("c")]})
    assert dict(call.headers)["anthropic-beta"] == "mcp-client-2025-11-20"


def test_source_text_of_members() -> None:
    object_text = ' { "a" : {"b": [1.0, 1E5]} , "c":"\\ud83d" } '
    assert members(object_text) == {"a": '{"b": [1.0, 1E5]}', "c": '"\\ud83d"'}
    assert with_members(object_text, {"c": "2", "d": "3"}) == '{"a":{"b": [1.0, 1E5]},"c":2,"d":3}'
    assert members("{}") == {}
    assert source({"a": "\ud83d"}) == '{"a":"\\ud83d"}'
    for broken in ("[]", '{"a" 1}', '{"a":', "{a}", '{"a":1'):
        with pytest.raises(ValueError, match=r".*"):
            members(broken)


# --- media


def test_case_24_documents_images_and_audio() -> None:
    pdf = "data:application/pdf;base64," + base64.b64encode(b"%PDF").decode()
    parts: list[Json] = [
        {"type": "input_file", "filename": "a.pdf", "file_data": pdf},
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "high"},
    ]
    (message,) = said([{"role": "user", "content": parts}])
    pdf_source = {"type": "base64", "media_type": "application/pdf", "data": pdf.partition(",")[2]}
    assert message[1] == [
        {"type": "document", "source": pdf_source, "title": "a.pdf"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ]
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    with pytest.raises(RelayError) as caught:
        build({"input": [{"role": "user", "content": [audio]}]})
    assert caught.value.status == 400


def block_of(part: Json, media: dict[str, Media] | None = None) -> Json:
    (message,) = said([{"role": "user", "content": [part]}], media=media)
    (found,) = message[1]
    return found


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ({"image_url": "data:image/jpg;base64,QUJD"}, {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"}),
        ({"file_data": "QUJD", "filename": "a.md"}, {"type": "text", "media_type": "text/plain", "data": "ABC"}),
        ({"file_data": "QUJD"}, {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}),
        (
            {"file_data": "data:application/json;base64,QUJD"},
            {"type": "text", "media_type": "text/plain", "data": "ABC"},
        ),
        ({"file_data": "data:image/png;base64,QUJD"}, {"type": "base64", "media_type": "image/png", "data": "QUJD"}),
        ({"file_url": "https://e.com/a.PDF?x=1"}, {"type": "url", "url": "https://e.com/a.PDF?x=1"}),
    ],
)
def test_sources(part: Json, source: Json) -> None:
    kind = "input_image" if "image_url" in part else "input_file"
    assert block_of({"type": kind, **part})["source"] == source


def test_what_the_upstream_cannot_fetch_is_asked_for() -> None:
    parts = [
        {"type": "input_image", "image_url": "https://e.com/a.png"},
        {"type": "input_image", "image_url": "http://e.com/b.png"},
        {"type": "input_image", "image_url": PNG},
        {"type": "input_file", "file_url": "https://e.com/c.pdf"},
        {"type": "input_file", "file_url": "https://e.com/d.txt"},
        {"type": "input_file", "file_url": "https://e.com/d.txt"},
    ]
    raw = {"type": "reasoning", "summary": [], "content": ["odd"]}
    items = [{"role": "user", "content": parts}, raw, function_call("a"), result("a", parts)]
    needed = PROVIDER.media_needed(parsed({"input": items}), Target("up", NEWEST))
    assert needed == ["http://e.com/b.png", "https://e.com/d.txt"]
    media = {"http://e.com/b.png": Media("image/png", b"PNG"), "https://e.com/d.txt": Media("text/plain", b"hello")}
    assert block_of(parts[1], media)["source"]["data"] == encoded(b"PNG")
    document = block_of(parts[4], media)
    assert document["source"] == {"type": "text", "media_type": "text/plain", "data": "hello"}
    assert document["title"] == "d.txt"


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"image_url": "data:image/svg+xml;base64,QUJD"}, "unsupported_image_media_type"),
        ({"image_url": "data:image/png;base64,Q"}, "invalid_base64_image"),
        ({"image_url": "data:image/png;base64,"}, "invalid_base64_image"),
        ({"image_url": "ftp://e.com/a.png"}, "invalid_image_url"),
        ({"file_id": "file_1"}, "unsupported_parameter"),
        ({"file_data": "data:application/msword;base64,QUJD"}, "unsupported_value"),
        ({"file_data": "Q"}, "invalid_value"),
        ({"file_url": "ftp://e.com/a"}, "unsupported_parameter"),
    ],
)
def test_media_that_are_refused(part: Json, code: str) -> None:
    kind = "input_image" if "image_url" in part else "input_file"
    with pytest.raises(RelayError) as caught:
        block_of({"type": kind, **part})
    assert (caught.value.code, caught.value.status) == (code, 400)
    assert caught.value.param == "input[0].content[0]"
    if "file_id" in part:
        with pytest.raises(RelayError):
            block_of({"type": "input_image", **part})


# --- cache marks


def test_the_last_four_cache_marks_are_kept() -> None:
    def marked(number: int, mark: Any) -> Json:
        return {"type": "input_text", "text": str(number), "prompt_cache_breakpoint": mark}

    mark = {"mode": "explicit"}
    parts = [marked(0, mark), marked(1, {**mark, "ttl": "30m"}), *(marked(n, mark) for n in range(2, 5))]
    items = [{"role": "system", "content": [marked(9, mark)]}, {"role": "user", "content": parts}]
    call = build({"input": items, "prompt_cache_retention": "24h"})
    body = json.loads(call.body)
    assert body["system"] == [text("9")]
    hour = {"type": "ephemeral", "ttl": "1h"}
    assert [block.get("cache_control") for block in body["messages"][0]["content"]] == [None, *[hour] * 4]
    assert ("input", "only the last 4 cache breakpoints were kept") in call.warnings
    few = json.loads(build({"input": [{"role": "user", "content": parts[:2]}]}).body)
    assert [block["cache_control"] for block in few["messages"][0]["content"]] == [{"type": "ephemeral"}, hour]


# --- prefixes (decision 25)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12)
SAID = WORDS.filter(lambda value: bool(value.strip()))
SAYING = st.one_of(
    st.builds(user, SAID),
    st.builds(user, SAID, WORDS),
    st.just({"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}),
    st.builds(lambda value: {"role": "developer", "content": value}, SAID),
)


@st.composite
def answers(draw: st.DrawFn, turn: int) -> tuple[bytes, list[str]]:
    """An upstream's answer and the call ids in it: at least a text or a call."""
    pieces = []
    calls = []
    index = 0
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["thought", "redacted", "text", "search"]))
        if kind == "thought":
            pieces.append(upstream.thought(index, draw(SAID), draw(WORDS)))
        elif kind == "redacted":
            pieces.append(upstream.block(index, {"type": "redacted_thinking", "data": draw(SAID)}))
        elif kind == "text":
            pieces.append(upstream.text(index, draw(SAID)))
        else:
            name = f"srvtoolu_{turn}_{index}"
            pieces.append(upstream.call(index, name, "web_search", '{"query":"q"}', kind="server_tool_use"))
            index += 1
            pieces.append(
                upstream.block(index, {"type": "web_search_tool_result", "tool_use_id": name, "content": [{"n": 1.0}]})
            )
        index += 1
    for number in range(draw(st.integers(0, 2))):
        calls.append(f"toolu_{turn}.{number}")
        pieces.append(upstream.call(index + number, calls[-1], "look", json.dumps({"w": draw(WORDS)})))
    if not calls:
        pieces.append(upstream.text(index + 2, draw(SAID)))
    return upstream.start() + b"".join(pieces) + upstream.end("tool_use" if calls else "end_turn"), calls


@st.composite
def conversations(draw: st.DrawFn) -> list[list[Any]]:
    """The inputs of consecutive turns; each begins with the one before and that turn's output."""
    items: list[Any] = draw(st.lists(SAYING, min_size=1, max_size=3))
    if not any(item["role"] == "user" for item in items):
        items.append(user("go"))
    inputs = [list(items)]
    for turn in range(draw(st.integers(1, 3))):
        stream, calls = draw(answers(turn))
        heard = hear(stream, context=upstream.Context(model=NEWEST), check=False)
        assert heard.final["status"] == "completed"
        items.extend(heard.output)
        renamed = {item["call_id"]: item for item in heard.items("function_call")}
        for call_id in draw(st.permutations(sorted(renamed))):
            items.append(result(call_id, draw(WORDS)))
        if not calls or draw(st.booleans()):
            items.extend(draw(st.lists(SAYING, max_size=2)))
            items.append(user(draw(SAID)))
        inputs.append(list(items))
    return inputs


def message_texts(items: list[Any], model: str) -> list[str]:
    body = build({"input": items, "tools": [{"type": "web_search"}]}, model=model).body.decode()
    return split_array(members(body)["messages"])


def split_array(array: str) -> list[str]:
    """The elements of a JSON array as their own source text."""
    decoder = json.JSONDecoder(strict=False)
    found, at = [], 1
    while array[at] != "]":
        _, following = decoder.raw_decode(array, at)
        found.append(array[at:following])
        at = following + (array[following] == ",")
    return found


@settings(max_examples=150, deadline=None)
@given(conversations(), st.sampled_from([NEWEST, OLD, "claude-opus-4-5"]))
def test_messages_of_a_turn_but_the_last_stay_byte_for_byte(inputs: list[list[Any]], model: str) -> None:
    before: list[str] = []
    for items in inputs:
        messages = message_texts(items, model)
        assert messages[: len(before) - 1 if before else 0] == before[:-1]
        before = messages


@settings(max_examples=100, deadline=None)
@given(conversations())
def test_every_opaque_block_of_the_upstream_is_in_the_next_request(inputs: list[list[Any]]) -> None:
    for items in inputs:
        body = build({"input": items}).body.decode()
        for item in items:
            for block in upstream_blocks(item):
                assert block in body


def upstream_blocks(item: Any) -> tuple[str, ...]:
    envelope = unseal(item.get("encrypted_content"))
    return envelope.blocks if envelope is not None else ()


@settings(max_examples=60, deadline=None)
@given(
    conversations(),
    st.sampled_from(["claude-opus-5-5", "claude-haiku-5-5", "claude-opus-4-6", "claude-sonnet-4-5", "claude-3-haiku"]),
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_p": st.floats(0, 1),
            "max_output_tokens": st.integers(1, 10**6),
            "stop": st.lists(st.text(max_size=3), max_size=3),
            "tool_choice": st.sampled_from(["auto", "none", "required", {"type": "function", "name": "look"}]),
            "parallel_tool_calls": st.booleans(),
            "reasoning": st.fixed_dictionaries(
                {"effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"])},
                optional={"summary": st.just("auto"), "context": st.sampled_from(["auto", "current_turn"])},
            ),
            "service_tier": st.sampled_from(["auto", "default", "flex", "fast", "priority"]),
            "user": st.text(max_size=8),
            "truncation": st.just("auto"),
            "instructions": st.text(max_size=8),
        },
    ),
)
def test_generated_requests_are_what_the_sdk_takes(inputs: list[list[Any]], model: str, params: Json) -> None:
    tools: list[Json] = [{"type": "function", "name": "look"}, {"type": "web_search"}]
    call = build({"input": inputs[-1], "tools": tools, **params}, model=model)
    body = json.loads(call.body)
    body.get("thinking", {}).pop("block_binding", None)  # of the beta API
    PARAMS.validate_python(body)
