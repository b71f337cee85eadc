"""What a medium is: its bytes, then its label (decision 58), the same in all dialects.

Source: the formats' own specifications; https://mimesniff.spec.whatwg.org; RFC 2397. What each upstream is sent is its
own documentation's form of the same picture or sound.
"""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.providers.base import Media, Target
from relay.providers.chat import PROVIDER as CHAT
from relay.providers.gemini import PROVIDER as GEMINI
from relay.providers.media import data_url, is_base64, media_type, typed
from relay.responses.items import normalise
from relay.responses.request import parse
from tests.providers import anthropic_support, chat_support, gemini_support
from tests.support import cpu_seconds

Json = dict[str, Any]


def recording() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16))
    return file.getvalue()


BOX = b"\0\0\0\x18ftyp"
FORMATS = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "image/jpeg": b"\xff\xd8\xff\xdb\0\x43",
    "image/gif": b"GIF89a\x01\0\x01\0",
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "image/bmp": b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0",
    "image/tiff": b"II*\0\x08\0\0\0",
    "image/heic": BOX + b"heic\0\0\0\0",
    "image/heif": BOX + b"mif1\0\0\0\0",
    "image/avif": BOX + b"avif\0\0\0\0",
    "application/pdf": b"%PDF-1.7\n",
    "audio/wav": recording(),
    "audio/mpeg": b"ID3\x04\0\0\0\0\0\0",
    "audio/flac": b"fLaC\0\0\0\x22",
    "audio/ogg": b"OggS\0\x02",
    "audio/mp4": BOX + b"M4A \0\0\0\0",
    "audio/aiff": b"FORM\0\0\0\x24AIFFCOMM",
    "audio/aac": b"\xff\xf1\x50\x80\x02\x1f",
    "audio/amr": b"#!AMR\n",
    "video/mp4": BOX + b"isom\0\0\x02\0",
    "video/quicktime": BOX + b"qt  \0\0\0\0",
    "video/webm": b"\x1aE\xdf\xa3\x9f\x42\x86",
    "video/x-msvideo": b"RIFF\x24\0\0\0AVI LIST",
}


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize("label", ["", "image/png", "application/octet-stream", "text/plain", "nonsense", "a" * 300])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_say_it(kind: str, label: str) -> None:
    assert media_type(label, FORMATS[kind]) == kind
    assert typed(label, b64(FORMATS[kind])) == kind
    found = data_url(f"data:{label};base64,{b64(FORMATS[kind])}")
    assert found == (kind, b64(FORMATS[kind]))


@pytest.mark.parametrize(
    ("label", "head", "kind"),
    [
        ("image/jpg", b"??", "image/jpeg"),
        ("IMAGE/PNG; q=1", b"", "image/png"),
        ("audio/mp3", b"??", "audio/mpeg"),
        ("audio/x-wav", b"??", "audio/wav"),
        ("", b"??", "application/octet-stream"),
        ("binary/octet-stream", b"??", "application/octet-stream"),
        # what holds sound as well as pictures is what its label says
        ("audio/mp4", FORMATS["video/mp4"], "audio/mp4"),
        ("audio/x-m4a", FORMATS["video/mp4"], "audio/mp4"),
        ("audio/webm", FORMATS["video/webm"], "audio/webm"),
        ("video/ogg", FORMATS["audio/ogg"], "video/ogg"),
        ("audio/mp4", FORMATS["image/heic"], "image/heic"),
        ("video/quicktime", FORMATS["video/mp4"], "video/quicktime"),
        ("video/x-matroska", FORMATS["video/webm"], "video/x-matroska"),
        ("audio/opus", FORMATS["audio/ogg"], "audio/opus"),
        # but not another format
        ("audio/wav", FORMATS["audio/ogg"], "audio/ogg"),
        ("audio/x-unknown", FORMATS["audio/ogg"], "audio/ogg"),
        ("audio/mpeg", FORMATS["video/mp4"], "audio/mp4"),
        ("audio/wav", FORMATS["video/webm"], "audio/webm"),
        ("video/mp4", FORMATS["video/webm"], "video/webm"),
        # frames of MPEG audio without a tag, and what only looks like one
        ("", b"\xff\xfb\x90\x64", "audio/mpeg"),
        ("", b"\xff\xf3\x40\xc4", "audio/mpeg"),
        ("image/png", b"\xff\xfb\xf0\x64", "image/png"),
        ("image/png", b"\xff\xfe\x41\x00", "image/png"),
        ("text/plain", b"\xff", "text/plain"),
        # white space and a byte order mark in front of a PDF
        ("text/plain", b"\xef\xbb\xbf\r\n%PDF-1.4", "application/pdf"),
        # words that begin as a signature does
        ("text/plain", b"BMW drives", "text/plain"),
        ("text/plain", b"RIFFraff is a word", "text/plain"),
        ("text/plain", b"FORM of words here", "text/plain"),
    ],
)
def test_the_label_counts_where_the_bytes_do_not(label: str, head: bytes, kind: str) -> None:
    assert media_type(label, head) == kind


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:text/plain;charset=utf-8;base64,QUJD", ("text/plain", "QUJD")),
        ("DATA:Text/Plain;BASE64,QUJD", ("text/plain", "QUJD")),
        ("data:;base64,QUJD", ("application/octet-stream", "QUJD")),
        ("data:,A%20B", ("text/plain", b64(b"A B"))),
        ("data:text/html;charset=x,<b>", ("text/html", b64(b"<b>"))),
        ("data:image/png;base64,QUI%3D", ("image/png", "QUI=")),
        ("data:image/svg+xml;utf8,<svg/>", ("image/svg+xml", b64(b"<svg/>"))),
        ("data:image/png,%89PNG%0D%0A%1A%0A", ("image/png", b64(b"\x89PNG\r\n\x1a\n"))),
        ("data:a b/c;base64,QUJD", ("application/octet-stream", "QUJD")),
        ("data:image/png;base64", None),
        ("https://example.com/a,b", None),
        ("", None),
    ],
)
def test_data_urls(url: str, found: tuple[str, str] | None) -> None:
    assert data_url(url) == found


def test_either_alphabet_and_blanks_tell_the_type() -> None:
    assert typed("image/png", "_9j_2w==") == "image/jpeg"
    assert typed("image/png", "/9\nj/ 2wBD") == "image/jpeg"
    assert typed("image/png", "é" * 8) == "image/png"


@pytest.mark.parametrize("data", ["QUJD", "QUI=", "QQ==", "QQ", "Q_-+/", "QU\r\nJD \n", "QQ==\n"])
def test_base64(data: str) -> None:
    assert is_base64(data)


@pytest.mark.parametrize("data", ["", "#", "QQ===", "=QQ", "QQ==Q", "A" + " " * 30_000 + "!", "é"])
def test_no_base64(data: str) -> None:
    assert not is_base64(data)
    assert cpu_seconds(lambda: is_base64(data), 3) < 0.02


@given(st.binary(max_size=100), st.text(max_size=30))
def test_any_bytes_under_any_label(content: bytes, label: str) -> None:
    assert media_type(label, content)
    url = f"data:{label.replace(',', '')};base64,{b64(content)}"
    found = data_url(url)
    assert found is not None
    assert found.data == b64(content)
    data_url("data:" + label)


# --- the same in all dialects


def said(part: Json, media: dict[str, Media] | None = None) -> dict[str, Any]:
    """What each dialect is sent for ``part``."""
    body: Json = {"input": [{"role": "user", "content": [part]}]}
    return {
        "chat": chat_support.sent(body, quirks="openai", media=media)["messages"][-1]["content"][-1],
        "anthropic": anthropic_support.sent(body, media=media)["messages"][0]["content"][-1]["source"],
        "gemini": gemini_support.sent(body, media=media)["contents"][0]["parts"][-1]["inlineData"],
    }


@pytest.mark.parametrize("label", ["image/jpg", "image/png", "application/octet-stream", ""])
def test_a_picture_under_any_label(label: str) -> None:
    data = b64(FORMATS["image/jpeg"])
    right = {
        "chat": {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
        "anthropic": {"type": "base64", "media_type": "image/jpeg", "data": data},
        "gemini": {"mimeType": "image/jpeg", "data": data},
    }
    assert said({"type": "input_image", "image_url": f"data:{label};base64,{data}"}) == right
    fetched = {"http://x/a": Media(label, FORMATS["image/jpeg"])}
    found = said({"type": "input_image", "image_url": "http://x/a"}, fetched)
    assert {**found, "chat": right["chat"]} == right


def test_a_picture_that_is_sent_as_a_file() -> None:
    data = b64(FORMATS["image/png"])
    for part in ({"file_data": data}, {"file_data": f"data:application/pdf;base64,{data}"}):
        found = said({"type": "input_file", "filename": "a.pdf", **part})
        assert found["anthropic"] == {"type": "base64", "media_type": "image/png", "data": data}
        assert found["gemini"] == {"mimeType": "image/png", "data": data}
        assert found["chat"]["file"]["file_data"] == f"data:image/png;base64,{data}"


def test_a_file_by_a_data_url() -> None:
    found = said({"type": "input_file", "file_url": "data:application/pdf;base64,JVBERi0="})
    assert found["anthropic"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    assert found["gemini"] == {"mimeType": "application/pdf", "data": "JVBERi0="}


WAV = b64(recording())


@pytest.mark.parametrize(
    "part",
    [
        {"audio_url": f"data:audio/wav;base64,{WAV}"},
        {"audio_url": f"data:application/octet-stream;base64,{WAV}"},
        {"audio_url": {"url": f"data:audio/mpeg;base64,{WAV}"}},
        {"audio_url": "https://x.example/a"},
        {"input_audio": {"data": WAV, "format": "wav"}},
        {"input_audio": {"data": WAV, "format": "mp3"}},
        {"input_audio": {"data": f"data:audio/x-wav;base64,{WAV}", "format": "wav"}},
    ],
)
def test_sound_in_any_form(part: Json) -> None:
    body: Json = {"input": [{"role": "user", "content": [{"type": "input_audio", **part}]}]}
    media = {"https://x.example/a": Media("", recording())}
    chat = chat_support.sent(body, media=media)["messages"][0]["content"][0]
    assert chat == {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}
    gemini = gemini_support.sent(body, media=media)["contents"][0]["parts"][0]
    assert gemini == {"inlineData": {"mimeType": "audio/wav", "data": WAV}}
    urls = ["https://x.example/a"] if part.get("audio_url") == "https://x.example/a" else []
    request = parse({"model": "m", **body})
    assert CHAT.media_needed(request, Target("up", "m")) == urls
    assert GEMINI.media_needed(request, Target("up", "m")) == urls


def test_sound_of_an_unknown_format_keeps_its_name() -> None:
    for part, name in (
        ({"input_audio": {"data": "AAAA", "format": "pcm16"}}, "pcm16"),
        ({"audio_url": "data:audio/pcm16;base64,AAAA"}, "pcm16"),
    ):
        body: Json = {"input": [{"role": "user", "content": [{"type": "input_audio", **part}]}]}
        chat = chat_support.sent(body)["messages"][0]["content"][0]
        assert chat["input_audio"] == {"data": "AAAA", "format": name}
        assert gemini_support.sent(body)["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "audio/pcm16"


def test_sound_that_nobody_fetched() -> None:
    body: Json = {"input": [{"role": "user", "content": [{"type": "input_audio", "audio_url": "https://x/gone"}]}]}
    for support in (chat_support, gemini_support):
        with pytest.raises(RelayError) as caught:
            support.sent(body)
        assert caught.value.code == "failed_to_download_image"
        assert caught.value.param == "input[0].content[0]"


def test_sound_without_content_is_refused() -> None:
    with pytest.raises(RelayError) as caught:
        normalise([{"role": "user", "content": [{"type": "input_audio", "audio_url": 5}]}])
    assert caught.value.param == "input[0].content[0].input_audio"


# --- pictures that stand in history

PNG = b64(FORMATS["image/png"])
MADE: Json = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def shown(*items: Json) -> dict[str, list[Any]]:
    """Roles and contents of the messages that each dialect is sent."""
    body = {"input": list(items)}
    gemini = gemini_support.sent(body)["contents"]
    return {
        "chat": [(m["role"], m.get("content")) for m in chat_support.sent(body)["messages"]],
        "anthropic": [(m["role"], m["content"]) for m in anthropic_support.sent(body)["messages"]],
        "gemini": [(m["role"], m["parts"]) for m in gemini],
    }


def test_a_picture_in_history_is_shown_after_it_was_made() -> None:
    found = shown(user("draw"), MADE, user("describe it"))
    assert found["chat"] == [
        ("user", "draw"),
        ("assistant", "[generated image]"),
        ("user", [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]),
        ("user", "describe it"),
    ]
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert found["anthropic"][2:] == [("user", [block, {"type": "text", "text": "describe it"}])]
    blob = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    assert found["gemini"][2:] == [("user", [blob, {"text": "describe it"}])]


JPEG_URL = f"data:image/png;base64,{b64(FORMATS['image/jpeg'])}"
PLOTTED: Json = {"type": "code_interpreter_call", "id": "ci_1", "code": "plot()", "container_id": "c"}
PLOTS: list[Any] = [
    None,
    {"type": "logs", "logs": "drawn"},
    {"type": "image", "url": JPEG_URL},
    {"type": "image", "url": "https://files.example/cfile_1"},  # of a container that is gone
    {"type": "image", "url": None},
]


@pytest.mark.parametrize("item", [{**MADE, "result": JPEG_URL}, {**PLOTTED, "outputs": PLOTS}])
def test_pictures_with_a_label_are_shown_as_what_they_are(item: Json) -> None:
    found = shown(user("draw"), item, user("describe it"))
    kind, data = "image/jpeg", b64(FORMATS["image/jpeg"])
    assert found["chat"][-2][1] == [{"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}]
    source = {"type": "base64", "media_type": kind, "data": data}
    assert {"type": "image", "source": source} in found["anthropic"][-1][1]
    assert {"inlineData": {"mimeType": kind, "data": data}} in found["gemini"][-1][1]


def test_a_picture_stands_behind_the_calls_of_its_turn_and_their_outputs() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "done"}
    items = [user("draw"), MADE, call, output, {"role": "assistant", "content": "There."}, user("and?")]
    roles = [role for role, _ in shown(*items)["chat"]]
    assert roles == ["user", "assistant", "tool", "user", "assistant", "user"]
    result, picture = shown(*items)["anthropic"][2][1]
    assert (result["type"], picture["type"]) == ("tool_result", "image")
    # what was sent a turn earlier is sent again, byte by byte (decision 25)
    for dialect, earlier in shown(*items[:4]).items():
        assert shown(*items)[dialect][: len(earlier)] == earlier


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"result": None, "status": "failed"}, "[image generation failed]"),
        ({"result": None, "status": "in_progress"}, "[image generation failed]"),
        ({"result": ""}, "[image generation failed]"),
        ({"result": 5}, "[generated image]"),
        ({"result": "!!!!"}, "[generated image]"),
        ({"result": b64(FORMATS["image/avif"])}, "[generated image]"),
    ],
)
def test_a_picture_that_cannot_be_shown_is_told(changed: Json, text: str) -> None:
    found = shown(user("draw"), {**MADE, **changed}, user("and?"))
    assert found["chat"][1:] == [("assistant", text), ("user", "and?")]
    assert found["anthropic"][1] == ("assistant", [{"type": "text", "text": text}])


@pytest.mark.parametrize("options", [{"quirks": "deepseek"}, {"model": "openai/gpt-oss-120b"}])
def test_models_that_do_not_see_are_told(options: Json) -> None:
    body = {"input": [user("draw"), MADE, user("and?")]}
    messages = chat_support.sent(body, **options)["messages"]
    assert [message["content"] for message in messages] == ["draw", "[generated image]", "and?"]


def test_the_reasoning_of_a_turn_with_a_picture_is_of_that_turn() -> None:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "done"}
    body: Json = {
        "input": [user("draw"), thought, MADE, call, output],
        "reasoning": {"context": "current_turn"},
    }
    messages = chat_support.sent(body, model="kimi-k2.5")["messages"]
    assert messages[1]["reasoning_content"] == "hm"
