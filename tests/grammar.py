"""The state machine of a Responses stream as tables: what may follow what, and what must agree with what.

Source: responses-api.md §4.2 (numbers), §4.5 (state machine), §4.7 (final status); translation.md §3.1 (I1–I8, I13);
decisions.md 1 (one terminal event, no `error` event). It knows nothing of the relay's code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Event = dict[str, Any]


class Violation(NamedTuple):
    """One broken rule: its name (a test may tolerate it by that name), the event's position, what was seen."""

    rule: str
    at: int
    message: str


# state × event of the stream → next state
LIFECYCLE = {
    ("start", "response.created"): "created",
    ("created", "response.queued"): "queued",
    ("created", "response.in_progress"): "open",
    ("queued", "response.in_progress"): "open",
    ("open", "response.completed"): "ended",
    ("open", "response.incomplete"): "ended",
    ("open", "response.failed"): "ended",
}
TERMINALS = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}
LIFECYCLE_EVENTS = {event for _, event in LIFECYCLE}

# state × step of a part → next state
PART = {
    ("none", "added"): "open",
    ("open", "delta"): "open",
    ("open", "annotation"): "open",
    ("open", "filled"): "filled",
    ("filled", "done"): "done",
}


class Shape(NamedTuple):
    """A kind of part: the member that its deltas spell, where the item keeps it, the item types it belongs to."""

    member: str
    list: str
    items: frozenset[str]


PARTS = {
    "output_text": Shape("text", "content", frozenset({"message"})),
    "refusal": Shape("refusal", "content", frozenset({"message"})),
    "reasoning_text": Shape("text", "content", frozenset({"reasoning"})),
    "summary_text": Shape("text", "summary", frozenset({"reasoning"})),
}

# event → (step, kind of part or None where the event's own `part` says it, name of the index)
PART_EVENTS: dict[str, tuple[str, str | None, str]] = {
    "response.content_part.added": ("added", None, "content_index"),
    "response.content_part.done": ("done", None, "content_index"),
    "response.output_text.delta": ("delta", "output_text", "content_index"),
    "response.output_text.annotation.added": ("annotation", "output_text", "content_index"),
    "response.output_text.done": ("filled", "output_text", "content_index"),
    "response.refusal.delta": ("delta", "refusal", "content_index"),
    "response.refusal.done": ("filled", "refusal", "content_index"),
    "response.reasoning_text.delta": ("delta", "reasoning_text", "content_index"),
    "response.reasoning_text.done": ("filled", "reasoning_text", "content_index"),
    "response.reasoning_summary_part.added": ("added", "summary_text", "summary_index"),
    "response.reasoning_summary_part.done": ("done", "summary_text", "summary_index"),
    "response.reasoning_summary_text.delta": ("delta", "summary_text", "summary_index"),
    "response.reasoning_summary_text.done": ("filled", "summary_text", "summary_index"),
}

# event → (item type, step, member of the item that the deltas spell)
FILL_EVENTS = {
    "response.function_call_arguments.delta": ("function_call", "delta", "arguments"),
    "response.function_call_arguments.done": ("function_call", "filled", "arguments"),
    "response.custom_tool_call_input.delta": ("custom_tool_call", "delta", "input"),
    "response.custom_tool_call_input.done": ("custom_tool_call", "filled", "input"),
    "response.mcp_call_arguments.delta": ("mcp_call", "delta", "arguments"),
    "response.mcp_call_arguments.done": ("mcp_call", "filled", "arguments"),
    "response.code_interpreter_call_code.delta": ("code_interpreter_call", "delta", "code"),
    "response.code_interpreter_call_code.done": ("code_interpreter_call", "filled", "code"),
}
# state × step of a call's text → next state
FILL = {("open", "delta"): "open", ("open", "filled"): "filled"}
MUST_BE_FILLED = {"function_call", "custom_tool_call"}

# hosted items: the steps between `in_progress` and the end, and the ends
HOSTED = {
    "web_search_call": ({"searching"}, {"completed"}),
    "file_search_call": ({"searching"}, {"completed"}),
    "code_interpreter_call": ({"interpreting"}, {"completed"}),
    "image_generation_call": ({"generating", "partial_image"}, {"completed"}),
    "mcp_call": (set[str](), {"completed", "failed"}),
    "mcp_list_tools": (set[str](), {"completed", "failed"}),
}
HOSTED_EVENTS = {
    f"response.{kind}.{step}": (kind, step)
    for kind, (middle, ends) in HOSTED.items()
    for step in {"in_progress", *middle, *ends}
}

# what keeps its value from `added` to `done`, and from there to the terminal object
IDENTITY = ("type", "id", "call_id", "name", "role", "phase", "server_label")
# what keeps its value over all lifecycle events of one response
CONSTANT = (
    "id",
    "object",
    "created_at",
    "model",
    "instructions",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "max_output_tokens",
    "max_tool_calls",
    "user",
)
# client-run items: all of them end as completed in a completed response
CLIENT_ITEMS = {"message", "function_call", "custom_tool_call", "reasoning"}


class Part:
    """One part that is being streamed."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state = "none"
        self.spelled: list[str] = []
        self.annotations: list[Any] = []
        self.final: Any = None


class Item:
    """One output item that is being streamed."""

    def __init__(self, item: Event) -> None:
        self.first = item
        self.type = item.get("type")
        self.parts: dict[str, list[Part]] = {"content": [], "summary": []}
        self.fill = "open"
        self.spelled: list[str] = []
        self.hosted = "open"
        self.final: Event | None = None


class Checker:
    """Walks one stream; ``violations`` is what it found. It goes on after a violation as well as it can."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.state = "start"
        self.items: dict[int, Item] = {}
        self.first: Event = {}
        self.last_done = -1
        self.at = 0

    def require(self, condition: object, rule: str, message: str) -> bool:
        if not condition:
            self.violations.append(Violation(rule, self.at, message))
        return bool(condition)

    def feed(self, event: Event) -> None:
        kind = event.get("type", "")
        number = event.get("sequence_number")
        self.require(
            number == self.at and type(number) is int, "number", f"{kind} has number {number!r}, not {self.at}"
        )
        if self.require(self.state != "ended", "after_end", f"{kind} after the terminal event"):
            self.require(kind != "error", "error_event", "an `error` event inside a stream")
            if kind in LIFECYCLE_EVENTS:
                self.on_lifecycle(kind, event.get("response") or {})
            elif self.require(self.state == "open", "order", f"{kind} in state {self.state}"):
                self.on_item_event(kind, event)
        self.at += 1

    # lifecycle

    def on_lifecycle(self, kind: str, response: Event) -> None:
        state = LIFECYCLE.get((self.state, kind))
        if self.require(state, "order", f"{kind} in state {self.state}"):
            self.state = state or self.state
        if not self.first:
            self.first = response
        for name in CONSTANT:
            same = response.get(name) == self.first.get(name)
            self.require(same, "constant", f"response.{name} changed from {self.first.get(name)!r}")
        if kind in TERMINALS:
            self.state = "ended"
            self.on_terminal(TERMINALS[kind], response)
        else:
            allowed = {"response.queued": {"queued"}, "response.created": {"queued", "in_progress"}}
            status = response.get("status")
            self.require(status in allowed.get(kind, {"in_progress"}), "status", f"{kind} with status {status!r}")
            self.require(response.get("output") == [], "early_output", f"{kind} with output")
            for name in ("completed_at", "error", "incomplete_details", "usage"):
                self.require(response.get(name) is None, "early_end", f"{kind} with {name}")

    def on_terminal(self, status: str, response: Event) -> None:
        seen = response.get("status")
        self.require(seen == status, "status", f"response.{status} with status {seen!r}")
        for name, wanted in (("error", "failed"), ("incomplete_details", "incomplete"), ("completed_at", "completed")):
            present = response.get(name) is not None
            self.require(present == (status == wanted), "ending", f"{name} is {response.get(name)!r} in {status}")
        if status == "incomplete":
            self.require(
                (response.get("incomplete_details") or {}).get("reason"), "ending", "incomplete without a reason"
            )
        for index, item in self.items.items():
            self.require(item.final is not None, "unfinished", f"item {index} was never done")
        self.require(list(self.items) == list(range(len(self.items))), "output_index", f"indexes {list(self.items)}")
        done = [item.final for _, item in sorted(self.items.items())]
        self.require(response.get("output") == done, "final_output", "the terminal output differs from the done items")
        if status == "completed":
            for item in response.get("output") or []:
                if item.get("type") in CLIENT_ITEMS:
                    state = item.get("status", "completed")
                    self.require(
                        state == "completed", "item_status", f"{item.get('id')} is {state} in a completed response"
                    )

    # items

    def on_item_event(self, kind: str, event: Event) -> None:
        if kind == "response.output_item.added":
            return self.on_added(event)
        item = self.items.get(event.get("output_index", -1))
        if "output_index" not in event:
            self.require(not kind.startswith("response."), "unknown", f"{kind} belongs to no item")
            return None
        if item is None:
            self.require(
                False, "not_added", f"{kind} for output_index {event.get('output_index')}, which was not added"
            )
            return None
        if not self.require(item.final is None, "item_ended", f"{kind} after the item was done"):
            return None
        if kind == "response.output_item.done":
            return self.on_done(event["output_index"], item, event.get("item") or {})
        if "item_id" in event:
            self.require(event["item_id"] == item.first.get("id"), "item_id", f"{kind} names item {event['item_id']!r}")
        if kind in PART_EVENTS:
            self.on_part(kind, item, event)
        elif kind in FILL_EVENTS:
            self.on_fill(kind, item, event)
        elif kind in HOSTED_EVENTS:
            self.on_hosted(kind, item)
        return None

    def on_added(self, event: Event) -> None:
        index, item = event.get("output_index", -1), event.get("item") or {}
        if not self.require(index not in self.items, "output_index", f"output_index {index} used twice"):
            return
        self.require(index == len(self.items), "output_index", f"output_index {index}, not {len(self.items)}")
        for other in self.items.values():
            for name in ("id", "call_id"):
                clash = item.get(name) is not None and item.get(name) == other.first.get(name)
                self.require(not clash, "duplicate_id", f"{name} {item.get(name)!r} is another item's")
        if item.get("type") in CLIENT_ITEMS:
            self.require(
                item.get("status", "in_progress") == "in_progress", "added_status", f"added as {item.get('status')}"
            )
        for name in ("content", "summary", "arguments", "input"):
            full = isinstance(item.get(name), str | list) and item[name]
            self.require(not full, "added_full", f"{item.get('type')} is added with {name}")
        self.items[index] = Item(item)

    def on_done(self, index: int, item: Item, final: Event) -> None:
        self.require(index > self.last_done, "done_order", f"item {index} done after item {self.last_done}")
        self.last_done = max(index, self.last_done)
        for name in IDENTITY:
            same = final.get(name) == item.first.get(name)
            self.require(same, "identity", f"{name} changed from {item.first.get(name)!r} to {final.get(name)!r}")
        for name, parts in item.parts.items():
            finished = all(part.state == "done" for part in parts)
            self.require(finished, "unfinished", f"a {name} part of item {index} was never done")
            if parts or item.type == "message" or (item.type == "reasoning" and final.get(name)):
                same = (final.get(name) or []) == [part.final for part in parts]
                self.require(same, "done_parts", f"{name} of the done item differs from its done parts")
        if item.type in MUST_BE_FILLED:
            self.require(item.fill == "filled", "unfinished", f"{item.type} done without its arguments")
        member = next((row[2] for row in FILL_EVENTS.values() if row[0] == item.type), None)
        if member and item.fill == "filled":
            same = final.get(member) == "".join(item.spelled)
            self.require(same, "spelling", f"{member} of the done item differs from its deltas")
        if item.type in CLIENT_ITEMS:
            status = final.get("status", "completed")
            self.require(status in {"completed", "incomplete"}, "item_status", f"item {index} is done as {status!r}")
        elif item.type in HOSTED:
            cut = final.get("status") in {"failed", "incomplete"}
            self.require(item.hosted == "ended" or cut, "hosted", f"{item.type} done in state {item.hosted}")
        item.final = final

    def on_part(self, kind: str, item: Item, event: Event) -> None:
        step, name, index_name = PART_EVENTS[kind]
        name = name or (event.get("part") or {}).get("type", "")
        shape = PARTS.get(name)
        if shape is None or item.type not in shape.items:
            self.require(False, "part_type", f"{kind} with a {name!r} part in a {item.type}")
            return
        parts = item.parts["summary" if index_name == "summary_index" else "content"]
        index = event.get(index_name, -1)
        if step == "added":
            self.require(all(part.state == "done" for part in parts), "part_order", f"{kind} while a part is open")
            if not self.require(index == len(parts), "part_index", f"{index_name} {index}, not {len(parts)}"):
                return
            full = event["part"].get(shape.member) or event["part"].get("annotations")
            self.require(not full, "added_full", f"{kind} with content")
            parts.append(Part(name))
        if not self.require(0 <= index < len(parts), "part_index", f"{kind} for {index_name} {index}, not added"):
            return
        part = parts[index]
        if not self.require(part.kind == name, "part_type", f"{kind} in a {part.kind} part"):
            return
        state = PART.get((part.state, step))
        if self.require(state, "part_order", f"{kind} in state {part.state}"):
            part.state = state or part.state
            self.on_part_step(step, part, shape, event)

    def on_part_step(self, step: str, part: Part, shape: Shape, event: Event) -> None:
        if step == "delta":
            self.spell(part.spelled, event)
        elif step == "annotation":
            index = event.get("annotation_index")
            self.require(index == len(part.annotations), "annotation_index", f"annotation_index {index}")
            part.annotations.append(event.get("annotation"))
        elif step in {"filled", "done"}:
            text = event.get(shape.member) if step == "filled" else event["part"].get(shape.member)
            self.require(text == "".join(part.spelled), "spelling", f"{event['type']} differs from its deltas")
        if step == "done":
            part.final = event["part"]
            same = event["part"].get("annotations", []) == part.annotations
            self.require(same, "annotations", "the part's annotations differ from those announced")

    def on_fill(self, kind: str, item: Item, event: Event) -> None:
        wanted, step, member = FILL_EVENTS[kind]
        if not self.require(item.type == wanted, "item_type", f"{kind} for a {item.type}"):
            return
        state = FILL.get((item.fill, step))
        if not self.require(state, "fill_order", f"{kind} in state {item.fill}"):
            return
        item.fill = state or item.fill
        if step == "delta":
            self.spell(item.spelled, event)
        else:
            same = event.get(member) == "".join(item.spelled)
            self.require(same, "spelling", f"{kind} differs from its deltas")

    def on_hosted(self, kind: str, item: Item) -> None:
        wanted, step = HOSTED_EVENTS[kind]
        if not self.require(item.type == wanted, "item_type", f"{kind} for a {item.type}"):
            return
        middle, ends = HOSTED[wanted]
        following = "started" if step in {"in_progress", *middle} else "ended"
        allowed = {"in_progress": {"open"}} | {step: {"started"} for step in (*middle, *ends)}
        if self.require(item.hosted in allowed[step], "hosted", f"{kind} in state {item.hosted}"):
            item.hosted = following

    def spell(self, spelled: list[str], event: Event) -> None:
        delta = event.get("delta", "")
        self.require(delta or event.get("logprobs"), "empty_delta", f"{event['type']} without text")
        self.require(not any("\ud800" <= letter <= "\udfff" for letter in delta), "surrogate", "a lone surrogate")
        spelled.append(delta)


def violations(events: list[Event]) -> list[Violation]:
    """Every rule that this stream breaks, in order; an empty list is a correct stream."""
    checker = Checker()
    for event in events:
        checker.feed(event)
    checker.require(checker.state == "ended", "no_end", "the stream ends without a terminal event")
    return checker.violations
