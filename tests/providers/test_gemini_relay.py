"""Gemini behind the relay, whole: what goes out is what google-genai would send, and comes back unchanged.

The oracle of requests is the SDK's own serialiser: our body, read by its types (which forbid unknown members), must be
written by it as the same body again. The oracle of round trips is the part sequence that the upstream sent.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import openai
import orjson
import pytest
from google import genai
from google.genai import _common, models, types
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.providers.base import Media, Target
from relay.providers.gemini import PROVIDER
from relay.providers.gemini_contents import CONTINUE, SENTINEL
from relay.responses import request as requests
from relay.responses.items import pairing
from tests import corpus
from tests.app.support import relaying
from tests.providers.gemini_support import MODEL, Json, build, chunk, hear, stream
from tests.support import run

CLIENT = genai.Client(api_key="canary")
VERTEX = SimpleNamespace(vertexai=True, project="p", location="l", api_key=None)


# --- what the SDK would send


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {re.sub(r"_([a-z])", lambda found: found[1].upper(), key): _camel(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_camel(one) for one in value]
    return value.replace("-", "+").replace("_", "/") if isinstance(value, str) else value


def as_google_genai_writes(body: Json, *, vertex: bool = False) -> Json:
    """Our body through the SDK's types and back. Raises: pydantic.ValidationError, ValueError."""
    config = dict(body.get("generationConfig", {}))
    config |= {name: value for name, value in body.items() if name not in ("contents", "generationConfig")}
    parameters = types._GenerateContentParameters(
        model="gemini-x",
        contents=[types.Content.model_validate(content) for content in body["contents"]],
        config=types.GenerateContentConfig.model_validate(config),
    )
    write = models._GenerateContentParameters_to_vertex if vertex else models._GenerateContentParameters_to_mldev
    client: Any = VERTEX if vertex else CLIENT._api_client
    written = _common.encode_unserializable_types(_common.convert_to_dict(write(client, parameters, None, parameters)))
    return {name: value for name, value in written.items() if name[0] != "_" and name != "config" and value != {}}


def assert_google_would_send(body: Json, *, vertex: bool = False) -> None:
    assert _camel(as_google_genai_writes(body, vertex=vertex)) == _camel(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"contents": [{"role": "user", "parts": [{"txt": "hi"}]}]},
        {"contents": [{"role": "user", "parts": "hi"}]},
        {"contents": [{"role": "user", "parts": []}], "generationConfig": {"thinkingConfig": {"level": "LOW"}}},
        {"contents": [{"role": "user", "parts": []}], "generationConfig": {"stop": ["x"]}},
        {"contents": [{"role": "user", "parts": []}], "temperature": 1},
        {"contents": [{"role": "user", "parts": []}], "tools": [{"functionDeclarations": [{"title": "x"}]}]},
    ],
)
def test_the_oracle_refuses_wrong_requests(wrong: Json) -> None:
    with pytest.raises((ValueError, AssertionError)):
        assert_google_would_send(wrong)


def _media_of(request: requests.Request) -> dict[str, Media]:
    found = {}
    for url in PROVIDER.media_needed(request, Target("up", MODEL)):
        found[url] = Media("application/pdf" if "pdf" in url else "image/png", b"x")
    return found


def _recorded() -> Iterator[tuple[str, Json]]:
    for exchange in corpus.exchanges("openai-responses"):
        if isinstance(exchange.request, dict) and (exchange.request.get("input") or exchange.request.get("messages")):
            yield str(exchange), exchange.request


def _built(body: Json, target: Target) -> bytes | RelayError:
    try:
        request = requests.parse(body)
        return PROVIDER.build(request, target, _media_of(request), frozenset()).body
    except RelayError as error:
        return error


REFUSED_PARAMS = re.compile(
    r"tools\[\d+\](\.type|\.container|\.filters\.allowed_domains)|background|temperature|conversation|moderation"
    r"|input\[\d+\]\.(type|call_id)|input(\[\d+\]\.content\[\d+\]\.file_id)?|tool_choice"
)
"""What recorded requests ask for that has no place here, or whose history was on OpenAI's side."""


@corpus.needed
@pytest.mark.parametrize("model", [MODEL, "gemini-2.5-flash", "gemini-3-flash-preview"])
@pytest.mark.parametrize("body", [body for _, body in _recorded()], ids=[name for name, _ in _recorded()])
def test_recorded_responses_requests_validate(body: Json, model: str) -> None:
    vertex = model.startswith("gemini-3-")
    built = _built(body, Target("up", model, quirks="vertex" if vertex else None))
    if isinstance(built, RelayError):
        assert built.status == 400
        assert REFUSED_PARAMS.fullmatch(str(built.param)), (built.param, built.message)
    else:
        assert_google_would_send(orjson.loads(built), vertex=vertex)


@corpus.needed
def test_most_recorded_requests_are_built() -> None:
    built = [isinstance(_built(body, Target("up", MODEL)), bytes) for _, body in _recorded()]
    assert sum(built) >= len(built) * 0.8


# --- generated conversations: what the upstream said comes back as it was

TEXTS = st.text(st.sampled_from("ab ü😀\n"), min_size=1, max_size=6)
SIGNATURES = st.none() | st.sampled_from(["c2ln", "YWI+/w==", "QQ=="])


def _signed(part: Json, signature: str | None) -> Json:
    return part if signature is None else {**part, "thoughtSignature": signature}


def _thought(text: str, signature: str | None) -> list[Json]:
    return [_signed({"text": text, "thought": True}, signature)]


def _code(text: str, signature: str | None, output: str) -> list[Json]:
    code = {"executableCode": {"language": "PYTHON", "code": text, "id": "k"}}
    return [_signed(code, signature), {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": output, "id": "k"}}]


def _search(query: str, signature: str | None) -> list[Json]:
    call = {"toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "id": "t", "args": {"queries": [query]}}}
    return [_signed(call, signature), {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "id": "t", "response": {}}}]


def _function(name: str, arguments: Json, signature: str | None, has_id: bool) -> list[Json]:
    call: Json = {"name": name, "args": arguments}
    return [_signed({"functionCall": {**call, "id": ""} if has_id else call}, signature)]


PARTS = st.one_of(
    st.builds(lambda text, sig: [_signed({"text": text}, sig)], TEXTS, SIGNATURES),
    st.builds(lambda sig: [_signed({"text": ""}, sig)], SIGNATURES),
    st.builds(_thought, TEXTS, SIGNATURES),
    st.builds(
        _function,
        st.sampled_from(["look_up", "read.it"]),
        st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=2),
        SIGNATURES,
        st.booleans(),
    ),
    st.builds(_code, TEXTS, SIGNATURES, TEXTS),
    st.builds(_search, TEXTS, SIGNATURES),
    st.builds(lambda sig: [_signed({"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}, sig)], SIGNATURES),
)
ANSWERS = st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: list(itertools.chain.from_iterable(parts)))
TOOLS = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in ("look_up", "read.it")]
OPTIONS: Json = {"capabilities": {"image_output": True}}


def _seen_again(parts: list[Json]) -> list[Json]:
    """What of an answer's parts is due in the next request: unsigned thoughts and empty texts are not; neighbouring
    unsigned texts are one; the first call without its signature has the sentinel."""
    due: list[Json] = []
    called = apart = False
    for part in parts:
        signed = "thoughtSignature" in part
        if "text" in part and not signed and (part.get("thought") or not part["text"]):
            apart = apart or bool(part["text"])  # a thought between two texts
            continue
        apart, was_apart = False, apart
        if "text" in part and not signed and not was_apart and due and set(due[-1]) == {"text"}:
            due[-1] = {"text": due[-1]["text"] + part["text"]}
            continue
        if "functionCall" in part:
            call = {name: value for name, value in part["functionCall"].items() if name != "id"}
            part = {**part, "functionCall": call}
            if not called and not signed:
                part["thoughtSignature"] = SENTINEL
            called = True
        due.append(part)
    return due


def _answer(body: Json, parts: list[Json], **options: Any) -> list[Json]:
    """The output items of one turn, as the client gets them."""
    pieces = stream(*(chunk(part) for part in parts), chunk(finish="STOP"))
    found = hear([pieces], request=build(body, **options), request_body={"reasoning": {"summary": "auto"}}, check=False)
    assert found.done is not None
    output: list[Json] = found.final["output"]
    return output


def _outputs(output: list[Json]) -> list[Json]:
    calls = [item["call_id"] for item in output if item["type"] == "function_call"]
    return [{"type": "function_call_output", "call_id": one, "output": "ok"} for one in reversed(calls)]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(ANSWERS)
@example([{"text": "a"}, {"text": "a", "thought": True}, {"text": "a"}])
@example([{"text": "a"}, {"text": ""}, {"text": "a"}])
@example([{"text": "a"}, {"text": "a", "thought": True}, {"text": "", "thoughtSignature": "c2ln"}])
@example([{"text": "", "thoughtSignature": "c2ln"}, {"text": "b"}])
def test_every_part_comes_back_in_its_place(parts: list[Json]) -> None:
    body: Json = {"input": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    output = _answer(body, parts, **OPTIONS)
    follow = [*body["input"], *output, *_outputs(output), {"role": "user", "content": "next"}]
    contents = json.loads(build({**body, "input": follow}, **OPTIONS).body)["contents"]
    due = _seen_again(parts)
    said = contents[1]["parts"] if len(contents) > 1 else []
    for part in said:
        part.get("functionCall", {}).pop("id", None)
    if all(part.get("thought") or part.get("text") == "" for part in due):
        assert said == []  # reasoning alone is not an answer
    else:
        assert said == due


EXTRA = st.lists(st.sampled_from(["user", "developer", "system", "image"]), min_size=1, max_size=3)


def _new_items(kinds: list[str]) -> list[Json]:
    image = {"type": "input_image", "image_url": "data:image/png;base64,QUJD"}
    return [
        {"role": "user", "content": [image]} if kind == "image" else {"role": kind, "content": f"{kind}!"}
        for kind in kinds
    ]


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(ANSWERS, EXTRA), min_size=2, max_size=4), st.sampled_from([MODEL, "gemini-2.5-flash"]))
def test_decision_25_a_longer_conversation_begins_with_the_same_contents(turns: Any, model: str) -> None:
    items: list[Json] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    before: list[bytes] = []
    for parts, extra in turns:
        body = {"input": items, "tools": TOOLS, "instructions": "Be brief."}
        built = orjson.loads(build(body, model=model, **OPTIONS).body)
        if model == MODEL:
            assert_google_would_send(built)
        now = [orjson.dumps(content) for content in built["contents"]]
        if orjson.loads(now[-1])["parts"][-1] == {"text": CONTINUE}:  # the one repair that is a content of its own
            now.pop()
        assert now[: len(before) - 1] == before[:-1]
        assert len(now) >= len(before)
        before = now
        output = _answer(body, parts, model=model, **OPTIONS)
        items = [*items, *output, *_outputs(output), *_new_items(extra)]
        assert not pairing(items).orphans


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_p": st.floats(0, 1),
            "max_output_tokens": st.integers(1, 9999),
            "seed": st.integers(-(2**40), 2**40),
            "stop": st.lists(TEXTS, max_size=6),
            "presence_penalty": st.floats(-2, 2),
            "top_logprobs": st.integers(0, 20),
            "reasoning": st.fixed_dictionaries(
                {},
                optional={
                    "effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
                    "summary": st.sampled_from(["auto", "detailed"]),
                },
            ),
            "service_tier": st.sampled_from(["auto", "default", "flex", "priority", "fast", "scale"]),
            "instructions": TEXTS,
            "tools": st.lists(
                st.sampled_from(
                    [
                        *TOOLS,
                        {"type": "web_search"},
                        {"type": "code_interpreter", "container": {"type": "auto"}},
                        {"type": "image_generation"},
                        {"type": "custom", "name": "patch"},
                        {"type": "shell"},
                    ]
                ),
                unique_by=lambda tool: (tool["type"], tool.get("name")),
            ),
            "tool_choice": st.sampled_from(["auto", "none", "required"]),
            "text": st.sampled_from(
                [
                    {"format": {"type": "json_object"}},
                    {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object", "allOf": []}}},
                    {"format": {"type": "text"}, "verbosity": "low"},
                ]
            ),
        },
    ),
    st.sampled_from([MODEL, "gemini-2.5-pro", "gemini-3.8-flash", "gemini-2.0-flash", "gemini-3-pro-image"]),
    st.booleans(),
)
def test_generated_parameters_validate(body: Json, model: str, vertex: bool) -> None:
    built = build({"input": "hi", **body}, model=model, quirks="vertex" if vertex else None)
    assert_google_would_send(orjson.loads(built.body), vertex=vertex)


# --- through the relay, over the demo upstream

TOOL = {
    "type": "function",
    "name": "look_up",
    "parameters": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
}


async def _five_turns(client: openai.AsyncOpenAI, *, drop: bool, streamed: bool) -> tuple[int, str]:
    items: list[Any] = [{"role": "user", "content": "start"}]
    for turn in range(8):
        asked: Json = {"model": "demo-strict-think-steps-5", "input": items, "tools": [TOOL], "store": False}
        if streamed:
            async with client.responses.stream(**asked) as events:
                async for _ in events:
                    pass
                response = await events.get_final_response()
        else:
            response = await client.responses.create(**asked, reasoning={"summary": "auto"})
        output = [item.model_dump(exclude_none=True) for item in response.output]
        for item in output:
            item.pop("parsed_arguments", None)
        calls = [item for item in output if item["type"] == "function_call"]
        if not calls:
            return turn, response.output_text
        items += [item for item in output if not (drop and item["type"] == "reasoning")]
        items += [
            {"type": "function_call_output", "call_id": call["call_id"], "output": f"found {turn}"} for call in calls
        ]
    raise AssertionError("the tool loop does not end")


@pytest.mark.parametrize("drop", [False, True], ids=["full", "dropped"])
@pytest.mark.parametrize("streamed", [False, True], ids=["json", "stream"])
def test_five_turns_of_tools_with_signatures(drop: bool, streamed: bool) -> None:
    async def main() -> None:
        async with relaying("gemini") as relay, openai.AsyncOpenAI(api_key="k", base_url=relay.base_url) as client:
            turns, said = await _five_turns(client, drop=drop, streamed=streamed)
            assert turns == 5
            assert "found 4" in said

    run(main())


def test_a_strict_upstream_refuses_what_the_client_changed() -> None:
    async def main() -> None:
        async with relaying("gemini") as relay, openai.AsyncOpenAI(api_key="k", base_url=relay.base_url) as client:
            asked: Json = {"model": "demo-strict-think-steps-5", "tools": [TOOL], "store": False}
            first = await client.responses.create(input="start", **asked)
            output: list[Any] = [item.model_dump(exclude_none=True) for item in first.output]
            other = output[-1]["call_id"]
            answers = [{"type": "function_call_output", "call_id": other, "output": "x"}]
            moved = [{"role": "user", "content": "something else"}, *output, *answers]
            # the signature is out of place: asked again once without it, and then it is the relay's own fault
            before = len(relay.demo.requests)
            with pytest.raises(openai.InternalServerError) as caught:
                await client.with_options(max_retries=0).responses.create(input=moved, **asked)
            assert caught.value.code == "translation_error"
            assert len(relay.demo.requests) == before + 2
            assert SENTINEL.encode() in relay.demo.requests[-1].body

    run(main())


def test_the_rest_of_the_demo() -> None:
    async def main() -> None:
        async with relaying("gemini") as relay, openai.AsyncOpenAI(api_key="k", base_url=relay.base_url) as client:
            search: Any = [{"type": "web_search"}]
            cited = await client.responses.create(model="demo-cite", input="What a day ü", tools=search)
            note: Any = cited.output[0].content[0].annotations[0]  # type: ignore[union-attr,index]
            assert (note.start_index, note.end_index) == (0, len("What a day ü"))
            assert [item.type for item in cited.output] == ["message", "web_search_call"]
            paused = await client.responses.create(model="demo-pause-2", input="one two three")
            assert "three" in paused.output_text
            refused = await client.responses.create(model="demo-refuse", input="hi")
            assert (refused.status, refused.output[0].content[0].type) == ("incomplete", "refusal")  # type: ignore[union-attr,index]
            whole = await client.responses.create(model="demo-json", input="hello there")
            assert whole.output_text == "hello there"
            counted = await client.responses.input_tokens.count(model="demo", input="a b c")
            assert counted.input_tokens == 3
            with pytest.raises(openai.RateLimitError) as limited:
                await client.with_options(max_retries=0).responses.create(model="demo-fail-429", input="hi")
            assert limited.value.response.headers["retry-after"] == "1"
            formed = await client.responses.create(
                model="demo",
                input="hi",
                text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object", "properties": {}}}},
            )
            assert isinstance(json.loads(formed.output_text), dict)
            for seen in relay.demo.requests:
                assert "key=" not in seen.path

    run(main())
