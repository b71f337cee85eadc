"""What each target takes of JSON Schema, as rows.

Sources: translation.md §1.5; https://platform.claude.com/docs/en/build-with-claude/structured-outputs (strict tools and
formats) and the API's own words for tools (anthropics/claude-code#5319, ComposioHQ/composio#3500, Dokploy/mcp#74);
https://ai.google.dev/api/generate-content (``responseJsonSchema``: the keywords; github/copilot-cli#4623,
NousResearch/hermes-agent#71804, sbroenne/mcp-server-excel#607, anomalyco/opencode#11888); OpenAI's function check in
its own words (langchain-ai/langchainjs#9804, PrefectHQ/fastmcp#2464); github.com/MoonshotAI/walle
``docs/mfjs-spec.md``; usestrix/strix#1088 (Groq); ggml-org/llama.cpp#26930, its ``common/json-schema-to-grammar.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

LIMITS: Final = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
    }
)
CONDITIONS: Final = frozenset({"not", "if", "then", "else", "dependentRequired", "dependentSchemas", "propertyNames"})


class Rules(NamedTuple):
    """What one target does to schemas.

    ``described``: keywords that go into the description; ``dropped``: keywords that are left out with a note;
    ``known``: the only keywords that there are (None: any); ``renamed``: keyword -> keyword; ``formats``: those that
    stay (None: all); ``closed``: objects get ``additionalProperties: false``, and open ones cannot be said;
    ``optional_limit``: how many properties may be optional in all; ``recursion``: ``yes``, ``no``, or ``optional``, in
    properties only that are not required; ``anything`` (``true``, ``{}``): whether it can be said; ``const``: whether
    it is known, else it becomes ``enum``; ``merged``: the members of ``allOf`` are put into their parent;
    ``bare_refs``: beside ``$ref`` nothing stays.

    ``tool``: the root is an object with ``properties``, and nothing is combined there; ``names``: the form of property
    names, ``name_limit`` its length; ``booleans``: whether ``true`` and ``false`` are schemas; ``tuples``: whether
    there is ``prefixItems``, else ``items`` allows each; ``needs_items``: arrays say what they hold,
    ``needs_properties``: objects, even if nothing; ``unions``: a list as ``type`` is ``kept``, ``split`` into
    ``anyOf``, or ``nullable`` (split, but for ``null`` beside a simple type, which stays, and beside an object or
    array, which goes); ``scoped``: keywords of objects and arrays stand beside that type only, and none beside
    ``anyOf``; ``typed``: every schema has a type, but beside ``anyOf``; ``simple_enums``: of strings that are not empty
    and numbers, ``one_type_enums`` of one of both.
    """

    described: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    known: frozenset[str] | None = None
    renamed: Mapping[str, str] = {}
    formats: frozenset[str] | None = None
    closed: bool = False
    optional_limit: int | None = None
    recursion: str = "yes"
    anything: bool = True
    const: bool = True
    merged: bool = False
    bare_refs: bool = False
    tool: bool = False
    names: re.Pattern[str] | None = None
    name_limit: int = 64
    booleans: bool = True
    tuples: bool = True
    needs_items: bool = False
    needs_properties: bool = False
    unions: str = "kept"
    scoped: bool = False
    typed: bool = False
    simple_enums: bool = False
    one_type_enums: bool = False


_ANTHROPIC_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")

ANTHROPIC: Final = Rules(
    described=LIMITS | CONDITIONS,
    dropped=frozenset({"prefixItems", "unevaluatedProperties", "unevaluatedItems"}),
    renamed={"oneOf": "anyOf"},
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}),
    closed=True,
    optional_limit=10,
    recursion="no",
    anything=False,
)
"""A format, which is enforced."""

ANTHROPIC_STRICT_TOOL: Final = ANTHROPIC._replace(tool=True, names=_ANTHROPIC_NAME)
ANTHROPIC_TOOL: Final = Rules(tool=True, names=_ANTHROPIC_NAME)
"""Any schema of JSON Schema 2020-12, but for its root and its names."""

GEMINI: Final = Rules(
    described=(LIMITS - {"minimum", "maximum", "minItems", "maxItems"}) | CONDITIONS,
    dropped=frozenset({"patternProperties", "unevaluatedProperties", "unevaluatedItems"}),
    renamed={"oneOf": "anyOf"},
    const=False,
    merged=True,
    bare_refs=True,
    recursion="optional",
    booleans=False,
)
"""A format."""

GEMINI_TOOL: Final = GEMINI._replace(
    described=GEMINI.described | {"default"},
    known=frozenset(
        {
            "$ref",
            "$defs",
            "type",
            "format",
            "title",
            "description",
            "enum",
            "items",
            "prefixItems",
            "minItems",
            "maxItems",
            "minimum",
            "maximum",
            "anyOf",
            "properties",
            "additionalProperties",
            "required",
            "propertyOrdering",
        }
    ),
    formats=frozenset({"date-time", "date", "time", "int32", "int64", "float", "double", "enum"}),
    tool=True,
    needs_items=True,
    unions="nullable",
    scoped=True,
    simple_enums=True,
)

CHAT_TOOL: Final = Rules(tool=True, booleans=False, tuples=False, needs_items=True, needs_properties=True)
"""OpenAI's check of a function, which most servers that speak its protocol copy in part."""

GRAMMAR_TOOL: Final = CHAT_TOOL._replace(
    described=frozenset({"pattern", "minLength", "maxLength", "contains", "propertyNames"}) | CONDITIONS,
    dropped=frozenset({"unevaluatedProperties", "unevaluatedItems", "patternProperties"}),
)
"""llama.cpp turns schemas into grammars: what that cannot read fails the request."""

MFJS_TOOL: Final = Rules(
    described=LIMITS | CONDITIONS | {"format"},
    dropped=frozenset({"patternProperties", "unevaluatedProperties", "unevaluatedItems"}),
    known=frozenset(
        {
            "$ref",
            "$defs",
            "type",
            "description",
            "default",
            "anyOf",
            "properties",
            "additionalProperties",
            "items",
            "enum",
            "required",
        }
    ),
    renamed={"oneOf": "anyOf"},
    const=False,
    merged=True,
    bare_refs=True,
    tool=True,
    booleans=False,
    tuples=False,
    needs_items=True,
    needs_properties=True,
    unions="split",
    scoped=True,
    typed=True,
    simple_enums=True,
    one_type_enums=True,
)
"""Moonshot's flavour."""

CHAT_TOOLS: Final[Mapping[str, Rules]] = {"openai": CHAT_TOOL, "grammar": GRAMMAR_TOOL, "mfjs": MFJS_TOOL}
"""By the capability ``tool_schema`` of the dialect ``chat``."""
