"""What upstreams call their conditions: one table of codes, one of words, each row with its source.

Source: decision 46 (codes before words; a throttle is never an overflow), translation.md §5.2, and what each row names.
A kind is a row of ``errors.KINDS``. Words are patterns over text in lower case; their gaps are bounded, so that a
search is linear in the text, which is at most ``SEARCH_LIMIT`` characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

SEARCH_LIMIT: Final = 4_096
"""Characters of an error's words that are looked at (decision 46)."""

CONTEXT: Final = "context_length_exceeded"
BILLING: Final = "upstream_billing"
LIMITED: Final = "rate_limited"
OVERLOADED: Final = "overloaded"
POLICY: Final = "content_policy"
KEY: Final = "upstream_authentication"
FORBIDDEN: Final = "upstream_forbidden"
MODEL: Final = "model_not_found"
TIMEOUT: Final = "upstream_timeout"
INVALID: Final = "invalid_request"


# --- codes


class Vendor(NamedTuple):
    """Codes of one vendor, by kind. ``numbered``: codes are numbers, known as ``numbered`` and the number."""

    source: str
    codes: Mapping[str, tuple[str, ...]]
    numbered: str | None = None


SPECIFIC: Final[tuple[Vendor, ...]] = (
    Vendor(
        "OpenAI and those who speak like it (platform.openai.com/docs/guides/error-codes; responses-api.md §6.2)",
        {
            CONTEXT: ("context_length_exceeded", "context_window_exceeded"),
            BILLING: ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
            LIMITED: ("rate_limit_exceeded", "rate_limit_reached", "too_many_requests", "usage_limit_reached"),
            OVERLOADED: ("server_is_overloaded", "server_overloaded", "overloaded", "slow_down"),
            POLICY: ("content_filter", "content_policy_violation", "moderation_blocked", "moderation"),
            "invalid_prompt": ("invalid_prompt",),
            MODEL: ("model_not_found",),
            INVALID: ("invalid_encrypted_content",),
            "previous_response_not_found": ("previous_response_not_found",),
        },
    ),
    Vendor(
        "Azure (learn.microsoft.com, Azure OpenAI content filtering and quotas; openai/openai-dotnet#881)",
        {
            LIMITED: ("RateLimitReached", "TooManyRequests"),
            POLICY: ("ResponsibleAIPolicyViolation",),
            MODEL: ("DeploymentNotFound",),
            OVERLOADED: ("no_capacity", "EngineOverloaded"),
        },
    ),
    Vendor(
        "Anthropic (platform.claude.com, Errors)",
        {BILLING: ("billing_error", "credit_balance_exhausted"), OVERLOADED: ("overloaded_error",)},
    ),
    Vendor(
        "AWS (Bedrock API reference: Converse, InvokeModelWithResponseStream)",
        {
            LIMITED: ("ThrottlingException", "ThrottledException", "RequestLimitExceeded"),
            OVERLOADED: ("ServiceUnavailableException", "ModelNotReadyException"),
            TIMEOUT: ("ModelTimeoutException",),
        },
    ),
    Vendor("Google (google.rpc.Code, cloud.google.com/apis/design/errors)", {OVERLOADED: ("UNAVAILABLE",)}),
    Vendor(
        "DashScope (alibabacloud.com/help/en/model-studio/error-code)",
        {
            LIMITED: ("Throttling", "LimitRequests", "limit_requests", "limit_burst_rate", "RateQuota"),
            BILLING: (
                "Arrearage",
                "PrepaidBillOverdue",
                "PostpaidBillOverdue",
                "CommodityNotPurchased",
                "AllocationQuota.FreeTierOnly",
            ),
            POLICY: ("DataInspectionFailed", "data_inspection_failed"),
            MODEL: ("ModelNotFound",),
            OVERLOADED: ("ModelServingError", "ServiceOverloaded"),
        },
    ),
    Vendor(
        "MiniMax (platform.minimax.io/docs/api-reference/errorcode)",
        {
            LIMITED: ("1002", "1039", "1041", "2045", "2056"),
            KEY: ("1004", "2049"),
            BILLING: ("1008", "insufficient_balance_error"),
            POLICY: ("1026", "1027"),
            TIMEOUT: ("1001",),
        },
        "minimax",
    ),
    Vendor(
        "Zhipu, Z.ai (docs.z.ai/api-reference/api-code)",
        {
            KEY: ("1000", "1001", "1002", "1003", "1004"),
            BILLING: ("1113", "1309"),
            FORBIDDEN: ("1110", "1111", "1112", "1121", "1220", "1311", "1313"),
            MODEL: ("1211", "1221", "1222"),
            CONTEXT: ("1261",),
            POLICY: ("1301",),
            LIMITED: ("1302", "1303", "1304", "1305", "1308", "1310"),
            OVERLOADED: ("1312",),
        },
        "",
    ),
    Vendor(
        "Moonshot (platform.kimi.ai/docs/api/errors; MoonshotAI/kimi-code#1857)",
        {
            BILLING: ("exceeded_current_quota_error",),
            LIMITED: ("rate_limit_reached_error",),
            OVERLOADED: ("engine_overloaded_error",),
            KEY: ("invalid_authentication_error", "incorrect_api_key_error"),
        },
    ),
    Vendor(
        "DeepSeek and its like (api-docs.deepseek.com/quick_start/error_codes)", {BILLING: ("insufficient_balance",)}
    ),
    Vendor("Perplexity (recorded traffic)", {CONTEXT: ("too_many_prompt_tokens",)}),
    Vendor(
        "Cerebras (inference-docs.cerebras.ai, Error codes)",
        {
            LIMITED: ("token_quota_exceeded", "request_quota_exceeded", "too_many_tokens_error"),
            OVERLOADED: ("queue_exceeded",),
        },
    ),
    Vendor("llama.cpp (ggml-org/llama.cpp tools/server)", {CONTEXT: ("exceed_context_size_error",)}),
    Vendor(
        "GitHub Copilot and Models (docs.github.com/github-models)",
        {CONTEXT: ("model_max_prompt_tokens_exceeded", "tokens_limit_reached"), LIMITED: ("quota_exceeded",)},
    ),
    Vendor("LiteLLM (docs.litellm.ai/docs/exception_mapping)", {CONTEXT: ("ContextWindowExceededError",)}),
    Vendor(
        "Z.ai as a finish reason and others (earendil-works/pi, overflow list)",
        {CONTEXT: ("model_context_window_exceeded",)},
    ),
    Vendor(
        "Mistral (docs.mistral.ai; mistralai/client-python issues)",
        {LIMITED: ("service_tier_capacity_exceeded", "rate_limited")},
    ),
    Vendor(
        "Together, xAI, gateways (docs.together.ai/docs/error-codes)", {BILLING: ("payment_required", "CreditsError")}
    ),
    Vendor("OpenRouter (openrouter.ai/docs/api/reference/errors)", {BILLING: ("insufficient_credits",)}),
    Vendor("New API (QuantumNous/new-api, types/error.go)", {BILLING: ("insufficient_user_quota",)}),
    Vendor("LiteLLM (docs.litellm.ai, Budgets)", {BILLING: ("budget_exceeded",)}),
    Vendor("Novita (novita.ai/docs, error codes)", {BILLING: ("NOT_ENOUGH_BALANCE",)}),
    Vendor(
        "Volcengine Ark (volcengine.com/docs/82379, error codes)",
        {
            LIMITED: ("RateLimitExceeded", "AccountRateLimitExceeded", "QuotaExceeded"),
            BILLING: ("AccountOverdueError",),
            OVERLOADED: ("ServerOverloaded",),
            POLICY: (
                "SensitiveContentDetected",
                "InputTextSensitiveContentDetected",
                "OutputTextSensitiveContentDetected",
            ),
            FORBIDDEN: ("ModelNotOpen",),
        },
    ),
    Vendor(
        "SiliconFlow (docs.siliconflow.cn, error handling)",
        {OVERLOADED: ("50505", "50603"), BILLING: ("30001",), MODEL: ("20012",)},
        "",
    ),
    Vendor(
        "Cloudflare Workers AI (developers.cloudflare.com/workers-ai/platform/errors)",
        {LIMITED: ("3036",), OVERLOADED: ("3040",), MODEL: ("5007",)},
        "",
    ),
)
"""Codes that say what happened. They win over words."""

MILD: Final[tuple[Vendor, ...]] = (
    Vendor(
        "Anthropic (platform.claude.com, Errors) and those who speak like it",
        {
            LIMITED: ("rate_limit_error",),
            KEY: ("authentication_error",),
            FORBIDDEN: ("permission_error",),
            TIMEOUT: ("timeout_error",),
            "request_too_large": ("request_too_large",),
            MODEL: ("not_found_error", "NotFoundError"),
        },
    ),
    Vendor(
        "Google (google.rpc.Code)",
        {
            LIMITED: ("RESOURCE_EXHAUSTED",),
            KEY: ("UNAUTHENTICATED",),
            FORBIDDEN: ("PERMISSION_DENIED",),
            TIMEOUT: ("DEADLINE_EXCEEDED",),
            MODEL: ("NOT_FOUND",),
        },
    ),
    Vendor(
        "OpenAI: error.type of its limits (platform.openai.com/docs/guides/rate-limits), wrong keys",
        {LIMITED: ("tokens", "requests"), KEY: ("invalid_api_key", "API_KEY_INVALID")},
    ),
    Vendor(
        "AWS (Bedrock API reference)", {FORBIDDEN: ("AccessDeniedException",), KEY: ("UnrecognizedClientException",)}
    ),
)
"""Codes that also stand over an exhausted balance: what is said of money wins over them, other words do not."""

VAGUE: Final[tuple[Vendor, ...]] = (
    Vendor(
        "every dialect: something is wrong with the request",
        {
            INVALID: (
                "invalid_request_error",
                "INVALID_ARGUMENT",
                "BadRequestError",
                "FAILED_PRECONDITION",
                "ValidationException",
                "validation_error",
                "invalid_parameter_error",
                "InvalidParameter",
            )
        },
    ),
)
"""Codes that stand over nearly everything: looked at when nothing else tells."""

_WORD: Final = re.compile(r"[^a-z0-9]+")
_ENDING: Final = re.compile(r"(?:error|exception)$")


def plain(code: str) -> str:
    """A code without its spelling: case, separators, namespace (``a.b#Name``) and ``Error`` at the end do not count."""
    name = code[:128].rpartition("#")[2].partition(":")[0].lower()
    return _ENDING.sub("", _WORD.sub("", name)) or name


def _table(vendors: Iterable[Vendor]) -> dict[str, str]:
    rows: dict[str, str] = {}
    for vendor in vendors:
        for kind, codes in vendor.codes.items():
            for code in codes:
                name = f"{vendor.numbered or ''}{code}" if code.isdecimal() else plain(code)
                rows.setdefault(name, kind)
    return rows


_SPECIFIC: Final = _table(SPECIFIC)
_MILD: Final = _table(MILD)
_VAGUE: Final = _table(VAGUE)


def _of(table: Mapping[str, str], codes: Iterable[str]) -> str | None:
    for code in codes:
        # ``Throttling.RateQuota``, ``litellm.ContextWindowExceededError``: the whole first, then its ends
        for name in (code, code.rpartition(".")[2], code.partition(".")[0]):
            kind = table.get(plain(name))
            if kind is not None:
                return kind
    return None


# --- words


class Words(NamedTuple):
    """One way to say it, and who does."""

    pattern: str
    source: str


OVERFLOWS: Final[tuple[Words, ...]] = (
    Words(
        r"(?:maximum|max) (?:supported )?(?:context|prompt|model|input|sequence) (?:length|size|window|tokens)",
        "OpenAI, Azure, vLLM, xAI, SambaNova",
    ),
    Words(
        r"context[ _-]?(?:length|window|size|limit|budget)[ _-]?(?:(?:of .{1,40}? )?(?:has been |is |was ))?"
        r"(?:exceed|overflow|too)",
        "many",
    ),
    Words(
        r"exceed(?:s|ed|ing)?\b.{0,60}?\bcontext", "OpenAI 'exceeds the context window', llama.cpp, Anthropic, Ollama"
    ),
    Words(
        r"(?:prompt|input) (?:tokens? )?(?:is |are |was )?too (?:long|large)",
        "Anthropic, Bedrock, Fireworks, Ollama, LiteLLM, Qianfan",
    ),
    Words(r"(?:messages|conversation|message you submitted) (?:is|are|was) too long", "Perplexity, ChatGPT, gateways"),
    Words(r"input token length too long", "Moonshot (platform.kimi.ai/docs/api/errors)"),
    Words(r"exceed(?:s|ed)? (?:the )?model(?:'s)? token limit", "Moonshot (MoonshotAI/kimi-cli#2011)"),
    Words(
        r"input tokens? (?:count )?.{0,40}?exceed", "Gemini, OpenAI 'Input tokens exceed the configured limit', Nova"
    ),
    Words(r"input token count is \d{1,12} but model only supports", "Vertex AI (googleapis/python-genai)"),
    Words(r"token count\b.{0,40}?\bexceeds? (?:the )?(?:model's )?(?:max|limit)", "GitHub Copilot, Gemini, SGLang"),
    Words(r"requested tokens? .{0,40}?exceed", "llama-cpp-python (abetlen/llama-cpp-python#120)"),
    Words(r"(?:input|prompt) length\b.{0,40}?\bexceeds?", "OpenRouter's Poolside, SGLang, TensorRT-LLM, Ollama"),
    Words(r"prompt exceeds (?:the )?max", "Zhipu, code 1261"),
    Words(
        r"(?:longer|larger|greater) than (?:the )?(?:model(?:'?s)? |maximum )(?:context|model|input|sequence) length",
        "SGLang, Together, vLLM, MLC LLM",
    ),
    Words(
        r"(?:longer|greater) than (?:the )?(?:context length|max_model_len|max_seq_len)", "LM Studio, vLLM, TabbyAPI"
    ),
    Words(r"context length is only", "vLLM (recorded)"),
    Words(
        r"reduce (?:the length of the (?:messages|prompt|input|conversation)|your prompt)",
        "Groq, Cerebras, vLLM, older OpenAI",
    ),
    Words(r"tokens in request more than max tokens allowed", "gateways (earendil-works/pi, overflow list)"),
    Words(r"too many (?:input |prompt )?tokens", "Cohere (docs.cohere.com/reference/errors), Bedrock"),
    Words(r"token limit exceeded|exceed(?:s|ed)? (?:the )?(?:total |maximum )?tokens? limit", "watsonx, gateways"),
    Words(r"too large for model with \d{1,12} maximum context", "Mistral"),
    Words(r"configured context size is", "DS4 (earendil-works/pi, overflow list)"),
    Words(r"range of input length should be", "DashScope (help.aliyun.com/model-studio error codes)"),
    Words(r"tokens \+ `?max_(?:new_)?tokens`? must be|`inputs` must have less than", "TGI (huggingface/llm-vscode#94)"),
    Words(
        r"context the overflows|reached context length|context overflow", "LM Studio (lmstudio-ai/lmstudio-bug-tracker)"
    ),
    Words(r"body too large for .{0,80}? model\b.{0,20}?max size: \d{1,9} tokens", "GitHub Models"),
    Words(r"exceed max message tokens", "Volcengine Ark"),
    Words(r"total number of tokens .{0,60}?(?:cannot exceed|exceeds)", "Cohere, Databricks"),
    Words(
        r"prompt 超长|(?:上下文|输入)长度?.{0,12}?超|超过最大长度|tokens?\s?(?:数|长度).{0,12}?超",
        "Zhipu, iFlytek Spark and gateways in Chinese",
    ),
)
"""The input is longer than the model's context."""

BALANCES: Final[tuple[Words, ...]] = (
    Words(r"insufficient (?:account )?(?:balance|credits?|funds)", "DeepSeek, MiniMax, Moonshot, Zhipu, OpenRouter"),
    Words(
        r"(?:balance|credits?) (?:is |are |has been |have been )?(?:too low|negative|insufficient|exhausted|depleted)",
        "Anthropic, Google",
    ),
    Words(r"credit balance\b.{0,40}?\b(?:too low|negative|exhausted|depleted)", "Anthropic"),
    Words(
        r"(?:out of|used (?:up )?all (?:of your )?(?:available )?|no(?: remaining)?|not enough|requires? more) credits"
        r"|does(?:n'?t| not) have any credits",
        "xAI, OpenRouter",
    ),
    Words(r"not enough balance|quota is not enough", "Novita, New API"),
    Words(r"budget has been exceeded", "LiteLLM (docs.litellm.ai, Budgets)"),
    Words(r"invalid_payment_instrument", "Bedrock (AWS Marketplace)"),
    Words(r"exceeded your monthly (?:included )?credits|can only afford", "Hugging Face, OpenRouter"),
    Words(r"\barrears\b|\boverdue\b|account is in good standing", "Zhipu, DashScope (Arrearage)"),
    Words(r"payment (?:is )?required|(?:add|update) a (?:valid )?payment method", "Together, Fireworks"),
    Words(r"please (?:recharge|top[ -]?up)|(?:top[ -]?up|recharge) your (?:account|balance)", "Moonshot, Zhipu"),
    Words(r"spend(?:ing)? (?:limit|cap)|billing hard limit", "xAI, Google, OpenAI"),
    Words(r"(?:余|用户)额度?不足|欠费|账户余额|请充值", "gateways in Chinese, New API"),
)
"""There is no money left."""

LIMITS: Final[tuple[Words, ...]] = (
    Words(r"rate[ _-]?limit(?!s?(?:\.\w|/|#))", "many; not the name of a page about them"),
    Words(r"too many (?:concurrent |parallel )?requests", "many"),
    Words(r"throttl", "AWS, DashScope"),
    Words(
        r"(?:tokens?|requests?|calls?|quer(?:y|ies)|messages?|images?|quota|limit(?:ed)?|times)[ _-]{0,2}.{0,20}?"
        r"(?<![a-z])per[ _-](?:second|minute|min|hour|day|week|month)(?![a-z])|(?:tokens|requests)/(?:s|min|hour|day)",
        "OpenAI, Anthropic, Bedrock, Cerebras, Groq",
    ),
    Words(
        r"\b(?:daily|hourly) (?:token |request |usage |message |input |output ){0,2}(?:limit|quota)"
        r"|\blimit for (?:today|this (?:minute|hour|day))",
        "Cerebras, Vertex AI, gateways",
    ),
    Words(r"\b(?:tpm|rpm|tpd|rpd|qps|qpm|rps)\b", "OpenAI, Groq, Moonshot, DashScope"),
    Words(r"quota (?:was |has been |is )?(?:exceeded|exhausted|reached)|#token-limit", "Google, DashScope"),
    Words(
        r"(?:request|concurrency|concurrent|usage|frequency)s? (?:rate |quota )?limit|reduce concurrency", "Kimi, Zhipu"
    ),
    Words(r"限流|并发|请求频率|请求过于频繁", "gateways in Chinese"),
)
"""Too much in a time."""

BUSY: Final[tuple[Words, ...]] = (
    Words(r"overloaded|server (?:is )?(?:too )?busy|high demand", "Anthropic, Moonshot, DeepSeek, Gemini"),
    Words(
        r"(?:at|over|out of|insufficient) (?:full |max(?:imum)? )?capacity|capacity (?:temporarily )?exceeded",
        "Groq, Cloudflare",
    ),
    Words(r"service (?:is )?(?:temporarily |currently )?unavailable|temporarily unavailable", "many"),
    Words(
        r"no available (?:model )?(?:providers?|channels?|workers?|servers?|instances?)|no healthy upstream",
        "OpenRouter, New API, Envoy",
    ),
    Words(r"(?:is|still) (?:currently )?loading|loading model|model too busy", "llama.cpp, Hugging Face"),
)
"""It is not the request's fault, and may go later."""

WAITING: Final = re.compile(
    r"please wait|wait (?:before|for|a |and )|(?:try|retry) (?:again )?(?:in|after|later|tomorrow)\b|slow down|稍后"
)
"""Words of waiting: with ``TOO_MUCH`` a limit, and never an overflow."""
TOO_MUCH: Final = re.compile(r"too many|too much|limit|exceed|quota")

FILTERS: Final[tuple[Words, ...]] = (
    Words(r"content[ _]management policy|content[ _]polic(?:y|ies)|content[ _]filter", "Azure, OpenAI"),
    Words(
        r"inappropriate content|(?:unsafe|sensitive)(?: or sensitive)? content|new_sensitive",
        "DashScope, Zhipu, MiniMax",
    ),
    Words(r"flagged (?:by|as|for) |safety (?:system|filter)s?|blocked by .{0,20}?moderation", "OpenAI, OpenRouter"),
    Words(r"敏感内容|内容安全|不安全", "Zhipu and gateways in Chinese"),
)
"""The input or the answer was filtered."""

QUOTA: Final = re.compile(r"exceeded your (?:current|monthly) quota|check your plan and billing")
"""OpenAI's words for an empty account, which Google and DashScope use for limits: looked at after those."""


def _union(rows: Iterable[Words]) -> re.Pattern[str]:
    return re.compile("|".join(row.pattern for row in rows))


_SAYS: Final = {
    CONTEXT: _union(OVERFLOWS),
    BILLING: _union(BALANCES),
    LIMITED: _union(LIMITS),
    OVERLOADED: _union(BUSY),
    POLICY: _union(FILTERS),
}

_WRONG_KEY: Final = re.compile(r"api[ _-]?key not valid|invalid (?:x-)?api[ _-]?key|incorrect api key")
_LOADING: Final = re.compile(r"(?:failed|unable|could not|error).{0,20}(?:download|fetch).{0,40}(?:image|url|file)")
_LOST: Final = "unexpected endpoint or method"
"""LM Studio's answer, with 200, to a path that it does not know (lmstudio-ai/lmstudio-bug-tracker)."""
_UNREADABLE: Final = re.compile(r"could not process image|invalid image data")

STATUSES: Final[Mapping[int, str]] = {
    400: INVALID,
    401: KEY,
    402: BILLING,
    403: FORBIDDEN,
    404: MODEL,
    405: INVALID,
    408: TIMEOUT,
    409: "conflict",
    413: "request_too_large",
    415: INVALID,
    422: INVALID,
    429: LIMITED,
    498: OVERLOADED,
    499: OVERLOADED,
    502: OVERLOADED,
    503: OVERLOADED,
    504: TIMEOUT,
    529: OVERLOADED,
}
"""HTTP status -> kind, where neither codes nor words say more."""

_SURE: Final = frozenset({401, 402, 429})
"""Statuses that nothing but a specific code or the words of an empty balance contradicts."""


def kind_of(status: int, codes: tuple[str, ...], text: str) -> str | None:
    """The kind of an error by its codes, its words (lower case) and its status; None where none of them tells."""
    kind = _of(_SPECIFIC, codes)
    if kind == BILLING and _SAYS[LIMITED].search(text) and not _SAYS[BILLING].search(text):
        return LIMITED  # DashScope's ``insufficient_quota`` for tokens per minute
    if kind == LIMITED and status == 402:
        return BILLING  # GitHub Copilot's ``quota_exceeded``
    if kind is not None:
        return kind
    if status == 402 or _SAYS[BILLING].search(text):
        return BILLING
    kind = _of(_MILD, codes)
    if kind is not None and status != 404:
        return kind
    return (status not in _SURE and _by_words(status, text)) or STATUSES.get(status) or _of(_VAGUE, codes)


def _by_words(status: int, text: str) -> str | None:
    if _LOST in text:
        return "upstream_misconfigured"
    if _SAYS[LIMITED].search(text):
        return LIMITED
    if _SAYS[OVERLOADED].search(text) and status != 403:
        return OVERLOADED
    waiting = WAITING.search(text) is not None
    if waiting and TOO_MUCH.search(text):
        return LIMITED
    if not waiting and status not in (403, 404) and _SAYS[CONTEXT].search(text):
        return CONTEXT
    if _SAYS[POLICY].search(text):
        return POLICY
    if _WRONG_KEY.search(text):
        return KEY
    if status in (400, 422):
        if _LOADING.search(text):
            return "failed_to_download_image"
        if _UNREADABLE.search(text):
            return "image_parse_error"
    return BILLING if QUOTA.search(text) else None


# --- 404: the model, something else that is not there, or nobody who knows the path

_MODEL: Final = re.compile(
    r"(?<![/\w])models?(?![\w-])|(?<![/\w])deployments?\b|endpoints? found|allowed providers|(?<!\w)模型"
)
_THING: Final = re.compile(
    r"(?:previous response|response|item|conversation|container|file|vector store|prompt|batch)s?"
    r" (?:(?:with |for )?ids?\b|['\"`(]?[a-z]{2,8}[_-][0-9a-z]).{0,80}?(?:not found|not exist)"
)
_BARE: Final = re.compile(r"(?:(?:error|404|status|resource)[\s:.,!()-]*){0,3}not[ _]?found[\s.!:]*(?:\(?404\)?|/\S*)?")
_PATH: Final = re.compile(
    r"(?:invalid|unknown request|unrecognized request) url|cannot post|no (?:static )?(?:resource|route)"
    r"|no handler found|unexpected endpoint|unknown (?:path|endpoint|url|operation)|post \S{1,200} not found"
    r"|(?:page|resource|route|path|url|uri|endpoint|file|method)\b.{0,80}?not found"
    r"|(?:route|path|url|uri|method)\b.{0,80}?not exist"
)


def missing(codes: tuple[str, ...], text: str, param: str | None) -> str | None:
    """What a 404 misses: a kind, ``upstream_misconfigured`` for the path; None where it does not say."""
    known = _of(_SPECIFIC, codes)
    if known is not None:
        return known
    if param == "model" or _MODEL.search(text):
        return MODEL
    if _THING.search(text):
        return "not_found"
    if not text.strip() or _BARE.fullmatch(text.strip()) or _PATH.search(text):
        return "upstream_misconfigured"
    return None
