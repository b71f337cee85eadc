"""What chat/completions servers and their models can do, as rows.

Source: translation.md §0.2, §1.1 (column A), §1.4 (column A), §1.9, §2.2–2.6; decisions 12, 13. Later rows win: the
default, then models anywhere, then servers, then models behind one server.

What the fields mean, where the name does not say it:

``mid_system``: ``native`` (a later system message stays where it is) or ``user_marker`` (one leading system message,
later ones are marked user messages); ``alternate``: user messages in a row are merged; ``needs_user``: a user must
begin behind the system; ``effort``: a row of ``providers.chat.EFFORT_FIELDS``; ``efforts``: what each level becomes,
and whether that deserves a warning;
``sampling``: ``full`` or ``none``; ``names``: our field -> theirs; ``drops``: parameters left out with a warning;
``tiers``: ``service_tier`` as it is sent, empty for nothing, absent for a warning; ``reasoning_out_fields``: names
in which raw reasoning arrives, the first non-empty one counts; ``reasoning_in_field`` and ``must_replay`` (``never``,
``tool_turns``, ``always``, ``details``): where and when it goes back; ``misses_reasoning``: a turn with calls that
lacks it is refused; ``forced_choice``: how a forced ``tool_choice`` goes with thinking: ``native``, ``still`` (it does
not, and thinking can be switched off), ``required`` (a call can be forced, but not which), ``words`` (it is asked for);
``usage_in_stream``: ``option`` or ``always``;
``json_schema``: ``native`` or ``fallback``; ``empty_content``: of an assistant message with calls only, ``omit`` for no
key; ``json_arguments``: history arguments must be JSON; ``closed_prompt``: say that a last assistant message is not to
be continued; ``cache_marks``: ``openai``, ``anthropic`` or None;
``tool_schema``: a row of ``schema.rules.CHAT_TOOLS``; ``sees``: pictures that stand in history are shown;
``think_tags``: text may begin with ``<think>``, or with thought that a lone ``</think>`` ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from relay.providers.capabilities import Row

LEVELS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

Efforts = Mapping[str, tuple[str | None, bool]]
"""Level asked for -> (level sent, or None to send nothing; whether the client is warned)."""


def ladder(*known: str, **moved: str) -> Efforts:
    """Levels that are ``known`` stay; others become the nearest lower known one, else the lowest, with a warning
    (without one for ``minimal`` -> ``low``); ``moved`` names exceptions, which do not warn."""
    efforts: dict[str, tuple[str | None, bool]] = {}
    for place, level in enumerate(LEVELS):
        usable = [name for name in known if name != "none" or level == "none"]
        lower = [name for name in usable if LEVELS.index(name) <= place]
        sent = lower[-1] if lower else usable[0]
        efforts[level] = (sent, sent != level and (level, sent) != ("minimal", "low"))
    for level, sent in moved.items():
        efforts[level] = (sent, False)
    return efforts


NO_EFFORT: Final[Efforts] = {level: (None, level != "none") for level in LEVELS}
"""A model that does not reason, or whose effort cannot be set."""

_DEFAULT: Final[dict[str, Any]] = {
    "token_limit_field": "max_tokens",
    "system_role": "system",
    "mid_system": "user_marker",
    "alternate": False,
    "needs_user": False,
    "effort": "reasoning_effort",
    "efforts": ladder("none", "low", "medium", "high"),
    "sampling": "full",
    "names": {},
    "drops": (),
    "tiers": {"auto": "", "default": ""},
    "reasoning_out_fields": ("reasoning_content", "reasoning", "thinking"),
    "reasoning_in_field": "reasoning_content",
    "must_replay": "never",
    "misses_reasoning": False,
    "forced_choice": "native",
    "usage_in_stream": "option",
    "json_schema": "native",
    "custom_tools": False,
    "allowed_tools": False,
    "tool_name": re.compile(r"[A-Za-z0-9_-]+"),
    "tool_name_limit": 64,
    "tool_schema": "openai",
    "tool_result_media": False,
    "parallel_tool_calls": True,
    "text_only_content": False,
    "empty_content": "",
    "refusal_field": False,
    "json_arguments": False,
    "call_id_form": None,
    "image_url_fetch": True,
    "image_detail_original": False,
    "files": False,
    "audio": True,
    "sees": True,
    "verbosity": False,
    "prompt_cache": False,
    "safety_identifier": False,
    "cache_marks": None,
    "think_tags": False,
    "late_annotations": True,
    "closed_prompt": False,
    "forward": (),
    "extra_body": {},
}

_ANYWHERE: Final[dict[str, Any]] = {"mid_system": "native"}

_OPENAI: Final[dict[str, Any]] = {
    **_ANYWHERE,
    "token_limit_field": "max_completion_tokens",
    "effort": "reasoning_effort",
    "efforts": NO_EFFORT,
    "tiers": {name: name for name in ("auto", "default", "flex", "priority", "scale", "fast")},
    "must_replay": "never",
    "custom_tools": True,
    "allowed_tools": True,
    "empty_content": None,
    "refusal_field": True,
    "image_detail_original": True,
    "files": True,
    "verbosity": True,
    "prompt_cache": True,
    "safety_identifier": True,
    "cache_marks": "openai",
}
_OPENAI_REASONS: Final[dict[str, Any]] = {"system_role": "developer", "sampling": "none"}
_OPENAI_HOSTS: Final = ("api.openai.com", ".openai.azure.com")
_OPENAI_QUIRKS: Final = ("openai", "azure")

# servers that render a model's own template: many of these want one system message, in front, and parse arguments
_TEMPLATED: Final[dict[str, Any]] = {
    "mid_system": "user_marker",
    "json_arguments": True,
    "misses_reasoning": False,
    "needs_user": True,
}

# platform.kimi.ai/docs/guide/use-thinking-models; the plan for coding has names of its own (kimi.com/code/docs, and
# github.com/1jehuang/jcode/issues/322 for what it refuses)
_KIMI_ALWAYS_THINKS: Final = (
    "*kimi-k2*thinking*",
    "*kimi-k2.[7-9]*",
    "*kimi-for-coding*",
    "*kimi-k2p[7-9]*",
    "k2p[7-9]*",
    "*/k2p[7-9]*",
)
_KIMI_3: Final = ("*kimi-k[3-9]*", "k[3-9]", "k[3-9][-.:]*", "*/k[3-9]", "*/k[3-9][-.:]*")
_KIMI_THINKS: Final = (*_KIMI_ALWAYS_THINKS, *_KIMI_3, "*kimi-k2.[5-6]*", "*kimi-k2p[5-6]*", "k2p[5-6]*", "*/k2p[5-6]*")
# api-docs.deepseek.com/guides/thinking_mode#tool-calls; platform.xiaomimimo.com/docs/en-US/usage-guide/
# passing-back-reasoning_content: their 400 comes through every gateway
_DEMAND_THOUGHTS: Final = ("*deepseek-v[4-9]*", "*deepseek-reasoner*", "*mimo-v[2-9]*")
_MAY_THINK: Final = ("*deepseek-v3.[2-9]*", "*deepseek-chat*")
_MOONSHOT_HOSTS: Final = ("api.moonshot.ai", "api.moonshot.cn", "api.kimi.com")

_VLLM_FORWARD: Final = (
    "top_k",
    "min_p",
    "repetition_penalty",
    "length_penalty",
    "min_tokens",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "truncate_prompt_tokens",
    "allowed_token_ids",
    "bad_words",
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "priority",
    "cache_salt",
    "kv_transfer_params",
    "vllm_xargs",
)
_SGLANG_FORWARD: Final = (
    "top_k",
    "min_p",
    "min_tokens",
    "repetition_penalty",
    "stop_token_ids",
    "stop_regex",
    "no_stop_trim",
    "ignore_eos",
    "skip_special_tokens",
    "regex",
    "ebnf",
    "chat_template_kwargs",
    "separate_reasoning",
    "lora_path",
    "session_params",
    "rid",
)
_OPENROUTER_FORWARD: Final = (
    "provider",
    "models",
    "route",
    "transforms",
    "plugins",
    "top_k",
    "top_a",
    "min_p",
    "repetition_penalty",
    "usage",
    "cache_control",
    "session_id",
    "modalities",
    "image_config",
)

ROWS: Final[tuple[Row, ...]] = (
    Row(_DEFAULT),
    # --- models, wherever they run
    Row({"alternate": True}, models=("*gemma*",)),
    Row({"sees": False}, models=("*deepseek*", "*gpt-oss*", "*codestral*", "*qwen3-coder*", "*gpt-3.5*")),
    Row(
        # "No user query found in messages" of Qwen's template; 2013 of MiniMax; Gemini and Claude behind a gateway
        {"needs_user": True},
        models=("*qwen*", "*gemma*", "*mistral*", "*magistral*", "*minimax*", "*gemini*", "*claude*"),
    ),
    Row({"must_replay": "always"}, models=("*glm-4.[5-9]*", "*glm-[5-9]*")),
    Row({"must_replay": "always", "misses_reasoning": True}, models=_KIMI_THINKS),
    Row({"must_replay": "tool_turns"}, models=(*_DEMAND_THOUGHTS, *_MAY_THINK)),
    Row({"misses_reasoning": True}, models=_DEMAND_THOUGHTS),
    # --- servers
    Row(_OPENAI, hosts=_OPENAI_HOSTS, quirks=_OPENAI_QUIRKS),
    Row(
        {
            **_ANYWHERE,
            "token_limit_field": "max_completion_tokens",
            "effort": "reasoning.effort",
            "efforts": ladder(*LEVELS),
            "tiers": {"auto": "", "default": "", "flex": "flex"},
            "reasoning_in_field": "reasoning_details",
            "must_replay": "details",
            "empty_content": None,
            "files": True,
            "verbosity": True,
            "prompt_cache": True,
            "forward": _OPENROUTER_FORWARD,
        },
        hosts=("openrouter.ai",),
        quirks=("openrouter",),
    ),
    Row(
        {"cache_marks": "anthropic"},
        models=("*claude*", "*gemini*", "*minimax*", "*glm*"),
        hosts=("openrouter.ai",),
        quirks=("openrouter",),
    ),
    Row(
        {
            **_ANYWHERE,
            "reasoning_in_field": "reasoning_details",
            "must_replay": "details",
            "effort": "reasoning.effort",
        },
        hosts=("ai-gateway.vercel.sh",),
        quirks=("vercel",),
    ),
    Row(
        {"reasoning_in_field": "reasoning_details", "must_replay": "details", "needs_user": True},
        hosts=("api.minimax.io", "api.minimaxi.com"),
        quirks=("minimax",),
    ),
    Row(
        {
            **_TEMPLATED,
            "effort": "chat_template_kwargs",
            "efforts": ladder("none", "low", "medium", "high"),
            "reasoning_out_fields": ("reasoning", "reasoning_content", "thinking"),
            "reasoning_in_field": "reasoning",
            "closed_prompt": True,
            "forward": _VLLM_FORWARD,
        },
        quirks=("vllm",),
    ),
    Row(
        {
            **_TEMPLATED,
            "effort": "chat_template_kwargs",
            "efforts": ladder("none", "low", "medium", "high"),
            "forward": _SGLANG_FORWARD,
        },
        quirks=("sglang",),
    ),
    Row(
        {
            **_TEMPLATED,
            "efforts": ladder("none", "low", "medium", "high"),
            "reasoning_out_fields": ("reasoning", "reasoning_content", "thinking"),
            "reasoning_in_field": "reasoning",
            "parallel_tool_calls": False,
            "image_url_fetch": False,
            "audio": False,
            "drops": ("logit_bias",),
        },
        quirks=("ollama",),
        hosts=(":11434/", "ollama.com"),
    ),
    Row(
        {
            **_TEMPLATED,
            "effort": "enable_thinking",
            "efforts": {level: (level, False) for level in LEVELS},
            "parallel_tool_calls": False,
            "image_url_fetch": False,
            "forward": ("top_k", "min_p", "typical_p", "repeat_penalty", "grammar", "cache_prompt", "id_slot"),
            "tool_schema": "grammar",
        },
        quirks=("llamacpp",),
    ),
    Row(
        {
            **_ANYWHERE,
            "effort": "thinking",
            "efforts": ladder("none", "low", "high", "max", minimal="low", medium="high", xhigh="high"),
            "reasoning_in_field": "reasoning_content",
            "must_replay": "tool_turns",
            "misses_reasoning": True,
            "forced_choice": "still",  # github.com/deepseek-ai/DeepSeek-V3/issues/1376
            "json_schema": "fallback",
            "json_arguments": True,
            "audio": False,
            "sees": False,
            "drops": ("logit_bias", "seed"),
        },
        quirks=("deepseek",),
        hosts=("api.deepseek.com",),
    ),
    Row(
        {
            **_ANYWHERE,
            "token_limit_field": "max_completion_tokens",
            "effort": "groq",
            "efforts": NO_EFFORT,
            "tiers": {"auto": "auto", "default": "on_demand", "flex": "flex"},
            "must_replay": "never",
            "json_schema": "fallback",
            "empty_content": "omit",
            "drops": ("logit_bias", "top_logprobs"),
        },
        quirks=("groq",),
        hosts=("api.groq.com",),
    ),
    Row(
        {
            "usage_in_stream": "always",
            "needs_user": True,
            "effort": "reasoning_effort",
            "efforts": NO_EFFORT,
            "names": {"seed": "random_seed"},
            "mid_system": "user_marker",
            "must_replay": "never",
            "call_id_form": "nine",
            "drops": ("logit_bias", "top_logprobs", "user", "safety_identifier"),
        },
        quirks=("mistral",),
        hosts=("api.mistral.ai",),
    ),
    Row(
        {
            **_ANYWHERE,
            "token_limit_field": "max_completion_tokens",
            "efforts": ladder("low", "medium", "high"),
            "must_replay": "never",
            "drops": ("logit_bias",),
        },
        quirks=("xai",),
        hosts=("api.x.ai",),
    ),
    Row(
        {
            **_ANYWHERE,
            "token_limit_field": "max_completion_tokens",
            "efforts": NO_EFFORT,
            "must_replay": "never",
            "drops": ("logit_bias", "presence_penalty", "frequency_penalty"),
        },
        quirks=("cerebras",),
        hosts=("api.cerebras.ai",),
    ),
    Row(
        {
            **_ANYWHERE,
            "effort": "thinking",
            "efforts": {**dict.fromkeys(LEVELS, (None, False)), "none": ("none", False)},
            "tool_schema": "mfjs",
            "drops": ("logit_bias", "seed"),
        },
        quirks=("moonshot",),
        hosts=_MOONSHOT_HOSTS,
    ),
    Row(
        {
            **_ANYWHERE,
            "effort": "thinking",
            "efforts": {**dict.fromkeys(LEVELS, (None, False)), "none": ("none", False)},
            "json_schema": "fallback",
            "drops": ("logit_bias", "seed", "presence_penalty", "frequency_penalty"),
        },
        quirks=("zai",),
        hosts=("api.z.ai", "open.bigmodel.cn"),
    ),
    # --- models behind one server
    Row(
        {"forced_choice": "still"},  # github.com/can1357/oh-my-pi/issues/1077
        models=("*kimi-k2.[5-6]*",),
        quirks=("moonshot",),
        hosts=_MOONSHOT_HOSTS,
    ),
    Row(
        # "disabled" is an error here, and so is every forced choice: github.com/UKGovernmentBEIS/inspect_ai/pull/5152
        {"efforts": {**dict.fromkeys(LEVELS, (None, False)), "none": (None, True)}, "forced_choice": "words"},
        models=_KIMI_ALWAYS_THINKS,
        quirks=("moonshot",),
        hosts=_MOONSHOT_HOSTS,
    ),
    Row(
        # platform.kimi.ai/docs/guide/use-reasoning-effort: no "thinking" member, sampling is fixed
        {
            "effort": "reasoning_effort",
            "efforts": ladder("low", "high", "max", medium="high", xhigh="high"),
            "forced_choice": "required",
            "sampling": "none",
            "drops": ("logit_bias", "seed", "presence_penalty", "frequency_penalty"),
        },
        models=_KIMI_3,
        quirks=("moonshot",),
        hosts=_MOONSHOT_HOSTS,
    ),
    Row(
        {**_OPENAI_REASONS, "efforts": ladder("low", "medium", "high")},
        models=("o1*", "o3*", "o4*"),
        hosts=_OPENAI_HOSTS,
        quirks=_OPENAI_QUIRKS,
    ),
    Row(
        {**_OPENAI_REASONS, "efforts": ladder("minimal", "low", "medium", "high")},
        models=("gpt-5*",),
        hosts=_OPENAI_HOSTS,
        quirks=_OPENAI_QUIRKS,
    ),
    Row({"efforts": ladder("none", "low", "medium", "high")}, ("gpt-5.1*",), _OPENAI_HOSTS, _OPENAI_QUIRKS),
    Row(
        {"efforts": ladder("none", "low", "medium", "high", "xhigh")}, ("gpt-5.[2-4]*",), _OPENAI_HOSTS, _OPENAI_QUIRKS
    ),
    Row(
        {**_OPENAI_REASONS, "efforts": ladder("none", "low", "medium", "high", "xhigh", "max")},
        models=("gpt-5.[5-9]*", "gpt-[6-9]*"),
        hosts=_OPENAI_HOSTS,
        quirks=_OPENAI_QUIRKS,
    ),
    Row({"sampling": "full", "efforts": NO_EFFORT}, ("gpt-5*-chat*", "gpt-5-search*"), _OPENAI_HOSTS, _OPENAI_QUIRKS),
    Row(
        {"efforts": ladder("low", "medium", "high"), "json_schema": "native"},
        models=("*gpt-oss*",),
        hosts=("api.groq.com", "api.cerebras.ai"),
        quirks=("groq", "cerebras"),
    ),
    Row({"json_schema": "native"}, ("*kimi-k2*", "*llama-4*"), ("api.groq.com",), ("groq",)),
    Row(
        {
            "efforts": {
                level: ("none" if level == "none" else "default", level in ("xhigh", "max")) for level in LEVELS
            },
            "think_tags": True,
        },
        models=("*qwen*",),
        hosts=("api.groq.com",),
        quirks=("groq",),
    ),
    Row(
        {"efforts": ladder("none", "high", medium="high")},
        models=("magistral*", "mistral-small*", "mistral-medium*"),
        hosts=("api.mistral.ai",),
        quirks=("mistral",),
    ),
)
