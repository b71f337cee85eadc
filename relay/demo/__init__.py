"""The demo upstream: a scripted inference server that speaks four wire formats on one port.

It answers without a model: it echoes the last text of the user token by token, calls the first tool that it is offered
with arguments that fit its schema and then quotes the result, answers JSON that fits a given schema, reasons when asked
to, honours token limits and stop sequences, and counts its tokens (words). It checks requests as the vendors do.

| format | endpoints |
|---|---|
| OpenAI chat/completions | `POST /v1/chat/completions`, `GET /v1/models` |
| OpenAI Responses (stateless) | `POST /v1/responses` |
| Anthropic Messages | `POST /v1/messages`, `POST /v1/messages/count_tokens`, `GET /v1/models` |
| Gemini | `POST /v1beta/models/MODEL:generateContent`, `:streamGenerateContent`, `:countTokens`, `GET /v1beta/models` |

The model's name tells it what else to do. Words are joined by dashes (`demo-think-cut-5`), numbers count tokens, what
stands before `demo` does not matter (`claude-opus-4-5-demo-think`), and a name without `demo` is the plain model:

| model | what it does |
|---|---|
| `demo-fail-429` | answers that HTTP status with the vendor's own error body |
| `demo-stall-5` | sends headers and that many tokens, then nothing (no number: headers) |
| `demo-stall-headers` | never answers |
| `demo-cut-5` | closes the connection after that many tokens, without a clean end |
| `demo-error-5` | sends the vendor's error inside the stream after that many tokens |
| `demo-overload200` | answers 200 and then says that it is overloaded |
| `demo-garbage` | answers 200 with the right content type and bytes that are no JSON |
| `demo-html` | answers 200 with an HTML page |
| `demo-empty` | answers 200 with an empty body |
| `demo-trickle` | writes one byte at a time |
| `demo-crlf` | ends the lines of its stream with CR LF |
| `demo-ping` | sends a comment line before each token |
| `demo-json` | answers with a JSON body although a stream was asked for |
| `demo-nodone` | leaves out `data: [DONE]` |
| `demo-nofinish` | ends cleanly without saying that it has finished |
| `demo-nousage` | leaves out the usage |
| `demo-tokens-1000` | says exactly that many numbered tokens instead of an echo |
| `demo-pace-50` | tokens a second; 0 is as fast as it can |
| `demo-batch-64` | tokens a write |
| `demo-stamp` | the text of each token is the time of its making: time.monotonic_ns() |
| `demo-parallel` | calls every tool it is offered, and at least two, side by side |
| `demo-sameindex` | chat: gives every parallel call the index 0 |
| `demo-steps-5` | calls tools in that many rounds before it answers with text |
| `demo-think` | reasons even when nobody asked |
| `demo-redacted` | reasons, and shows nothing of it but an opaque block |
| `demo-vllm` | chat: reasoning comes as `reasoning`, not as `reasoning_content` |
| `demo-details` | chat: reasoning comes as OpenRouter's `reasoning_details` |
| `demo-refuse` | declines to answer |
| `demo-cite` | cites a source |
| `demo-pause-2` | Anthropic `pause_turn`, Gemini `CONTINUATION`: that often before it ends |
| `demo-noforce` | refuses forced tool calls, as the newest Anthropic models do |
| `demo-strict` | refuses a history in which a signature that it issued is missing, changed or out of place |

Layout:

    application          routes, pace, faults, counters: what has to do with sockets
    behaviour            the table above, and names to behaviours
    script               what the model says, in no vendor's words; seals, by which -strict knows its reasoning again
    schema               values that fit JSON schemas
    models               the lists of models
    chat, responses, anthropic, gemini              replies in a vendor's wire format
    *_request                                       requests, checked in the vendor's words

It shares no code with the relay's own translation, so that one error cannot hide in both.
"""

from relay.demo.application import DemoApp, create_app
from relay.demo.behaviour import Behaviour, behaviour_of

__all__ = ["Behaviour", "DemoApp", "app", "behaviour_of", "create_app"]

app = create_app()
