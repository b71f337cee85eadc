"""The list of members that name what an upstream keeps, against openai-python's types and against a plain walk.

Source: outliving.md 52 to 55, §12.12.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import openai.types.responses as types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.responses import pointers as listed
from relay.responses.pointers import (
    CONTAINERS,
    LISTS,
    NAMES,
    NOT_OBJECTS,
    OPAQUE,
    Pointer,
    is_bare,
    is_sealed,
    made,
    pointers,
    requires_id,
    substitute,
)

FOLDER = Path(types.__file__).parent
APART = {"previous_response_id", "comparison_response_id"}
"""Top-level members that the app asks for by name."""


def members_of_requests() -> dict[str, set[str]]:
    """Class -> the members of openai-python's request types that are called an id, or a container."""
    found: dict[str, set[str]] = {}
    for file in [*FOLDER.rglob("*_param.py"), *FOLDER.glob("*params.py")]:
        name = ""
        for line in file.read_text().splitlines():
            if head := re.match(r"class (\w+)", line):
                name = head[1]
            elif member := re.match(r"    (\w+_ids?|container|id): ", line):
                found.setdefault(name, set()).add(member[1])
    return found


def test_every_id_of_a_request_is_on_the_list_or_known_to_be_none() -> None:
    names = set[str]().union(*members_of_requests().values()) - {"id"}
    assert "file_id" in names
    assert names - NAMES - LISTS - NOT_OBJECTS - APART == set()
    assert NAMES - {"vector_store_id"} <= names
    assert names >= LISTS


def test_items_must_have_an_id_where_openai_says_so() -> None:
    """A required ``id`` of an input item, by the ``type`` that stands beside it."""
    required = set()
    for file in FOLDER.rglob("*_param.py"):
        for text in re.split(r"\nclass ", file.read_text()):
            kind = re.search(r'\n    type: Required\[Literal\["(\w+)"\]\]', text)
            if kind and "\n    id: Required[" in text:
                required.add(kind[1])
    assert required >= {"reasoning", "web_search_call", "mcp_call"}
    for kind in required - {"item_reference"}:
        assert requires_id({"type": kind, "role": "assistant"}), kind
    for kind in listed._REQUIRED - required:
        raise AssertionError(kind)
    for kind in ("function_call", "function_call_output", "compaction", "vendor_item"):
        assert not requires_id({"type": kind})
    assert not requires_id({"type": "message", "role": "user"})


# --- the walk

KEYS = st.sampled_from([*sorted(NAMES), *sorted(LISTS), *sorted(OPAQUE)[:4], "content", "tools", "type", "id"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.sampled_from(["", "x", "file_1", "item_reference"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=40,
)


def plainly(value: Any, path: str = "", name: str = "", depth: int = 0) -> list[Pointer]:
    """The same by recursion, one value after another."""
    if isinstance(value, str):
        return [Pointer(path, value)] if name in NAMES and value else []
    found: list[Pointer] = []
    if isinstance(value, list):
        for at, one in enumerate(value):
            if isinstance(one, str):
                found += [Pointer(f"{path}[{at}]", one)] if name in LISTS and one else []
            else:
                found += plainly(one, f"{path}[{at}]", "", depth + 1)
    elif isinstance(value, dict):
        if depth and value.get("type") == "item_reference" and isinstance(value.get("id"), str):
            found.append(Pointer(f"{path}.id", value["id"]))
        for key, one in value.items():
            if isinstance(one, str) or key not in OPAQUE:
                found += plainly(one, f"{path}.{key}", key, depth + 1)
            if key in LISTS and isinstance(one, dict):
                found += [Pointer(f"{path}.{key}[{at}]", id) for at, id in enumerate(one) if id]
    return found


@given(VALUES)
def test_nothing_that_is_named_is_missed_at_any_depth(value: Any) -> None:
    assert sorted(pointers(value)) == sorted(plainly(value))
    told = {one for one in plainly(value) if one.path.endswith(".container")}
    assert set(pointers(value, CONTAINERS)) == told


STEPS = st.lists(st.sampled_from(["content", "output", "tools", 0]), min_size=1, max_size=200)


@given(STEPS, st.sampled_from(["container_id", "file_id"]))
def test_the_path_leads_to_what_is_named(steps: list[str | int], name: str) -> None:
    value: Any = {name: "x"}
    for step in reversed(steps):
        value = [None, value] if isinstance(step, int) else {"type": "t", step: value}
    (one,) = pointers(value)
    at = value
    for step in re.findall(r"\.(\w+)|\[(\d+)\]", one.path):
        at = at[step[0] or int(step[1])]
    assert at == "x" == one.id


def test_the_first_that_stands_is_the_first_that_is_named() -> None:
    value = {"a": [{"file_id": "1"}, {"b": {"file_id": "2"}}], "c": {"vector_store_ids": ["3", "4"]}}
    assert [one.id for one in pointers(value)] == ["1", "2", "3", "4"]
    inside = {"content": [{"type": "item_reference", "id": "x"}]}
    assert list(pointers(inside)) == [Pointer(".content[0].id", "x")]
    assert [one.path for one in pointers(value)][1:3] == [".a[1].b.file_id", ".c.vector_store_ids[0]"]


def test_what_is_a_clients_or_a_models_own_is_not_looked_into() -> None:
    for name in OPAQUE:
        assert not list(pointers({name: {"file_id": "x", "properties": [{"container_id": "y"}]}}))


def test_depth_costs_no_recursion_and_size_no_more_than_its_share() -> None:
    deep: Any = {"file_id": "x"}
    for _ in range(50_000):
        deep = [deep]
    assert len(list(pointers(deep))) == 1

    def seconds(size: int) -> float:
        value = {"content": [{"type": "input_text", "text": "x", "nested": [{"file_id": "f"}]} for _ in range(size)]}
        best = 9.0
        for _ in range(3):
            begun = time.process_time()
            assert sum(1 for _ in pointers(value)) == size
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(40_000) < 2.6 * seconds(20_000) + 0.01


# --- the ids of items


@pytest.mark.parametrize(
    ("item", "bare"),
    [
        ({"type": "reasoning", "id": "rs_1", "summary": []}, True),
        ({"type": "reasoning", "id": "rs_1", "content": None, "status": "completed"}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "x"}]}, False),
        ({"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text", "text": "x"}]}, False),
        ({"type": "compaction", "id": "cmp_1", "created_by": "x"}, True),
        ({"type": "image_generation_call", "id": "ig_1", "status": "completed", "size": "1x1", "result": None}, True),
        ({"type": "image_generation_call", "id": "ig_1", "result": "iVBOR"}, False),
        ({"type": "item_reference", "id": "msg_1"}, True),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}}, True),
        ({"type": "function_call", "id": "fc_1", "call_id": "c"}, False),
        ({"type": "compaction_trigger", "id": "x"}, False),
    ],
)
def test_an_item_is_bare_where_its_upstream_would_fill_it(item: dict[str, Any], bare: bool) -> None:
    assert is_bare(item) is bare
    assert not is_sealed(item)


def test_what_is_sealed_is_bound_to_its_id() -> None:
    assert is_sealed({"type": "reasoning", "encrypted_content": "x"})
    assert is_sealed({"type": "compaction", "encrypted_content": "x"})
    for nothing in ("", None, 1, {"a": 1}):
        assert not is_sealed({"type": "reasoning", "encrypted_content": nothing})
    assert not is_sealed({"type": "message", "encrypted_content": "x"})


def test_what_stands_for_an_id_is_the_same_each_time_and_nobody_elses() -> None:
    """The digests are sha256sum's of ``ann NUL msg_1`` and so on."""
    assert substitute("msg_1", "ann") == "msg_2866d923d1e50d309422a68f"
    assert substitute("msg_1", "bob") != substitute("msg_1", "ann")
    for id in ("plain", "MSG_1", "\ud800", "x" * 20 + "_1"):
        assert re.fullmatch(r"item_[0-9a-f]{24}", substitute(id, "ann"))


# --- what an answer makes known


def test_answers_name_what_they_made_and_nothing_else() -> None:
    output: list[Any] = [
        {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "outputs": []},
        {"type": "shell_call", "id": "sh_1", "environment": {"type": "container_reference", "container_id": "cntr_2"}},
        {
            "type": "file_search_call",
            "id": "fs_1",
            "results": [{"file_id": "file_1", "attributes": {"file_id": "no"}}, 1],
        },
        {
            "type": "message",
            "id": "msg_1",
            "content": [
                {"type": "output_text", "annotations": [{"container_id": "cntr_1", "file_id": "cfile_1"}, None]},
                {"type": "output_text", "annotations": None},
                "odd",
            ],
        },
        {
            "type": "mcp_call",
            "id": None,
            "container_id": "",
            "output": {"file_id": "no"},
            "results": {},
            "content": "s",
        },
        "odd",
    ]
    objects = ["cntr_1", "cntr_2", "file_1", "cfile_1"]
    assert made(output, items=False) == objects
    assert set(made(output, items=True)) == {*objects, "ci_1", "sh_1", "fs_1", "msg_1"}
    assert made([], items=True) == []
