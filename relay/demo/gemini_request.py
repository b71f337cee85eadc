"""Requests to Gemini generateContent, checked as Google checks them.

Source: ai.google.dev (generateContent, function calling, thought signatures), the discovery document's field names as
``google.genai`` writes them, and the wording of Google's 400 answers.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any, Final

from relay.demo.behaviour import behaviour_of
from relay.demo.script import Conversation, Refusal, Tool, Turn, call_problem, seal_fits

_NAME: Final = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}$")
_TOKEN: Final = re.compile(r"demo continuation (\d+)")
_SENTINELS: Final = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_TOP: Final = frozenset(
    re.findall(
        r"\w+",
        """
    contents systemInstruction tools toolConfig safetySettings generationConfig cachedContent labels model
    continuationToken serviceTier store
    """,
    )
)
_CONFIG: Final = frozenset(
    re.findall(
        r"\w+",
        """
    temperature topP topK candidateCount maxOutputTokens stopSequences responseLogprobs logprobs presencePenalty
    frequencyPenalty seed responseMimeType responseSchema responseJsonSchema routingConfig modelConfig
    responseModalities mediaResolution speechConfig audioTimestamp thinkingConfig imageConfig
    enableEnhancedCivicAnswers responseFormat
    """,
    )
)
_PARTS: Final = frozenset(
    re.findall(
        r"\w+",
        """
    text thought thoughtSignature inlineData fileData functionCall functionResponse executableCode
    codeExecutionResult videoMetadata toolCall toolResponse mediaResolution partMetadata
    """,
    )
)


def read_contents(body: dict[str, Any], model: str, stream: bool) -> Turn:
    """Check a request as Google would.

    Raises:
        Refusal: in Google's words.
    """
    body = _camel(body)
    behaviour = behaviour_of(model)
    config = _camel(body.get("generationConfig") or {})
    _known(body, _TOP, "")
    _known(config, _CONFIG, " at 'generation_config'")
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise Refusal("* GenerateContentRequest.contents: contents is not specified")
    thinking = _camel(config.get("thinkingConfig") or {})
    if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
        raise Refusal("You can only set only one of thinking budget and thinking level.")
    talk = Conversation()
    for part in _camel(body.get("systemInstruction") or {}).get("parts") or ():
        talk.system(part.get("text") or "")
    _Contents(talk, behaviour.strict).read(contents)
    tools = _tools(body.get("tools") or ())
    paused = _paused(body.get("continuationToken"))
    return Turn(
        model=model,
        behaviour=behaviour,
        stream=stream,
        body=body,
        talk=talk,
        call_prefix="call_",
        tools=tools,
        choice=_choice(body, tools),
        schema=_schema(config),
        reason=behaviour.strict
        or any(thinking.get(key) for key in ("thinkingLevel", "thinkingBudget", "includeThoughts")),
        seal_text=False,
        show_reason=thinking.get("includeThoughts") is True,
        limit=config.get("maxOutputTokens"),
        stops=tuple(config.get("stopSequences") or ()),
        pauses_left=max(0, (behaviour.pause or 0) - paused),
        next_token=base64.b64encode(f"demo continuation {paused + 1}".encode()).decode(),
    )


def _camel(value: dict[str, Any]) -> dict[str, Any]:
    """Google takes names in both spellings."""
    return {re.sub(r"_([a-z])", lambda found: found[1].upper(), key): one for key, one in value.items()}


def _known(value: dict[str, Any], names: frozenset[str], where: str) -> None:
    for key in value:
        if key not in names:
            raise Refusal(f'Invalid JSON payload received. Unknown name "{key}"{where}: Cannot find field.')


def _paused(token: Any) -> int:
    if token is None:
        return 0
    try:
        found = _TOKEN.fullmatch(base64.b64decode(str(token).replace("-", "+").replace("_", "/")).decode())
    except ValueError:
        found = None
    if found is None:
        raise Refusal("The continuation token is not valid.")
    return int(found[1])


def _schema(config: dict[str, Any]) -> Any:
    schema = config.get("responseJsonSchema", config.get("responseSchema"))
    kind = config.get("responseMimeType")
    if schema is not None and kind != "application/json":
        raise Refusal("Response schema is only supported with response mime type 'application/json'.")
    if schema is None and kind == "application/json":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return schema


def _tools(offered: Any) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for at, group in enumerate(offered):
        declarations = _camel(group).get("functionDeclarations")
        if declarations is None:
            continue  # the server's own tools
        where = f"* GenerateContentRequest.tools[{at}].function_declarations"
        if not declarations:
            raise Refusal(f"{where}: at least one function declaration is required.")
        for number, one in enumerate(declarations):
            one = _camel(one)
            name = one.get("name")
            if not isinstance(name, str) or not _NAME.match(name):
                raise Refusal(
                    f"{where}[{number}].name: Invalid function name. Must start with a letter or an underscore."
                )
            if any(tool.name == name for tool in tools):
                raise Refusal(f"Duplicate function declaration found: {name}")
            schema = one.get("parametersJsonSchema", one.get("parameters"))
            tools.append(Tool(name, schema or {"type": "object", "properties": {}}))
    return tuple(tools)


def _choice(body: dict[str, Any], tools: tuple[Tool, ...]) -> str:
    config = _camel(_camel(body.get("toolConfig") or {}).get("functionCallingConfig") or {})
    mode = config.get("mode") or "AUTO"
    names = config.get("allowedFunctionNames") or ()
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise Refusal(f"Invalid value at 'tool_config.function_calling_config.mode': \"{mode}\"")
    if names and mode not in ("ANY", "VALIDATED"):
        raise Refusal("Allowed function names should only be set when mode is ANY or VALIDATED.")
    if any(name not in {tool.name for tool in tools} for name in names):
        raise Refusal("Allowed function names must be a subset of the declared function names.")
    if mode == "ANY":
        if not tools:
            raise Refusal("Function calling mode is set to ANY but no function declarations are given.")
        return str(names[0]) if names else "required"
    return "none" if mode == "NONE" else "auto"


@dataclass(slots=True)
class _Contents:
    """The walk over the contents: turns of calls and of responses, and (strict) the signatures."""

    talk: Conversation
    strict: bool
    open: list[tuple[str, str | None]] = field(default_factory=list)  # name and id of each call not yet answered

    def read(self, contents: list[Any]) -> None:
        """Raises: Refusal."""
        for at, content in enumerate(contents):
            role = content.get("role") or "user"
            if role not in ("user", "model", "function"):
                raise Refusal("Please use a valid role: user, model.")
            parts = content.get("parts")
            if not parts:
                raise Refusal(f"* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.")
            parts = [_camel(part) for part in parts]
            for part in parts:
                _known(part, _PARTS, f" at 'contents[{at}].parts'")
                if not part.keys() - {"thought", "thoughtSignature"}:
                    raise Refusal(
                        f"* GenerateContentRequest.contents[{at}].parts: data must have one initialized field"
                    )
            if role == "model":
                self._model(parts, at)
            else:
                self._user(parts)
        if self.open:
            raise Refusal(_UNEQUAL)

    def _user(self, parts: list[dict[str, Any]]) -> None:
        responses = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if len(responses) != len(self.open):
            raise Refusal(_UNEQUAL)
        for response in responses:
            answered = next((one for one in self.open if _same_call(one, response)), None)
            if answered is None:
                raise Refusal(f"Function response '{response.get('name')}' does not match any function call.")
            if not isinstance(response.get("response"), dict):
                raise Refusal("Invalid value at 'contents.parts.function_response.response': it must be an object.")
            self.open.remove(answered)
            self.talk.result(str(answered[1]), _result_text(response["response"]))
        for part in parts:
            if part.get("text"):
                self.talk.user(part["text"])

    def _model(self, parts: list[dict[str, Any]], at: int) -> None:
        if self.open:
            raise Refusal(_UNEQUAL)
        prefix, seal = self.talk.prefix(), None
        ids: list[str] = []
        said: list[str] = []
        for number, part in enumerate(parts):
            signature = part.get("thoughtSignature")
            if self.strict and signature is not None and signature not in _SENTINELS:
                signature = str(signature).replace("-", "+").replace("_", "/")  # bytes in JSON: either alphabet
                self._check(signature, prefix, f"contents[{at}].parts[{number}]")
                seal = signature
            if "functionCall" in part:
                call = part["functionCall"]
                if not _NAME.match(str(call.get("name"))):
                    raise Refusal(f"Invalid function name in contents[{at}].parts[{number}].function_call.")
                self._check_call(call, signature, seal, len(ids), at, number)
                ids.append(str(call.get("id")))
                self.open.append((str(call.get("name")), call.get("id")))
            elif part.get("text") and not part.get("thought"):
                said.append(part["text"])
        if said:
            self.talk.assistant("".join(said))
        if ids:
            self.talk.calls(*ids)

    def _check(self, signature: str, prefix: bytes, path: str) -> None:
        try:
            base64.b64decode(signature, validate=True)
        except ValueError:
            raise Refusal(f"Invalid value at '{path}.thought_signature' (TYPE_BYTES), Base64 decoding failed") from None
        if not seal_fits(signature, ""):
            raise Refusal("Corrupted thought signature.")
        if not seal_fits(signature, "", prefix):
            raise Refusal(f"Corrupted thought signature: the one at {path} is out of place.")

    def _check_call(
        self, call: dict[str, Any], signature: Any, seal: str | None, index: int, at: int, number: int
    ) -> None:
        if not self.strict:
            return
        name = call.get("name")
        if index == 0 and signature is None:
            raise Refusal(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Function call "
                f"`default_api:{name}`, position {number}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )
        if problem := call_problem(call.get("id"), "call_", seal, index):
            raise Refusal(f"Corrupted thought signature: that of `default_api:{name}` in contents[{at}] is {problem}.")


_UNEQUAL: Final = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)


def _same_call(call: tuple[str, str | None], response: dict[str, Any]) -> bool:
    name, call_id = call
    if call_id is not None and response.get("id") is not None:
        return bool(response["id"] == call_id and response.get("name") == name)
    return bool(response.get("name") == name)


def _result_text(response: dict[str, Any]) -> str:
    if len(response) == 1:
        value = next(iter(response.values()))
        if isinstance(value, str):
            return value
    return str(response)
