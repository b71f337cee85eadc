"""URLs to origins and paths. Expected values: RFC 3986 and issue 2's examples."""

import pytest

from relay.upstream import Origin, parse_base_url, parse_url


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://127.0.0.1:8001/v1", Origin("http", "127.0.0.1", 8001), "/v1"),
        ("http://127.0.0.1:8001/v1/", Origin("http", "127.0.0.1", 8001), "/v1"),
        ("https://api.openai.com/v1", Origin("https", "api.openai.com", 443), "/v1"),
        ("HTTPS://API.OpenAI.com", Origin("https", "api.openai.com", 443), ""),
        ("http://[::1]:9/x", Origin("http", "::1", 9), "/x"),
        ("https://bücher.example/a b".replace(" ", "%20"), Origin("https", "xn--bcher-kva.example", 443), "/a%20b"),
        ("unix:/run/vllm.sock", Origin("http", "localhost", 80, "/run/vllm.sock"), "/v1"),
        ("unix:/run/x.sock:/api/v2/", Origin("http", "localhost", 80, "/run/x.sock"), "/api/v2"),
        ("unix:/run/x.sock:/", Origin("http", "localhost", 80, "/run/x.sock"), ""),
        ("unix:///run/x.sock", Origin("http", "localhost", 80, "/run/x.sock"), "/v1"),
    ],
)
def test_base_url_is_read(url: str, origin: Origin, path: str) -> None:
    assert parse_base_url(url) == (origin, path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://x/", "begins with http"),
        ("localhost:8000/v1", "begins with http"),
        ("", "begins with http"),
        ("http://", "names no host"),
        ("http:///v1", "names no host"),
        ("http://user:secret@x/", "api_key"),
        ("http://x:99999/", "cannot be read"),
        ("http://x:abc/", "cannot be read"),
        ("http://x:0/", "port 0"),
        ("http://[::1/", "cannot be read"),
        ("http://x/?key=secret", "no query"),
        ("http://x/#secret", "no fragment"),
        ("http://x/a b", "no spaces"),
        ("http://x/a\r\nb", "control"),
        ("http://a..b/", "empty or overlong part"),
        ("http://" + "a" * 64 + ".example/", "empty or overlong part"),
        ("unix:relative.sock", "unix:/absolute"),
        ("unix:", "unix:/absolute"),
    ],
)
def test_bad_base_url_says_why_without_secrets(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_base_url(url)
    assert "secret" not in str(caught.value)


def test_url_keeps_its_query_and_drops_its_fragment() -> None:
    assert parse_url("https://a.example/p/ä?x=1&y=%20#z") == (Origin("https", "a.example", 443), "/p/%C3%A4?x=1&y=%20")
    assert parse_url("https://a.example")[1] == "/"


def test_host_header_names_the_port_only_if_it_is_not_the_schemes() -> None:
    assert Origin("https", "a", 443).host_header == "a"
    assert Origin("https", "a", 80).host_header == "a:80"
    assert Origin("http", "::1", 8000).host_header == "[::1]:8000"
    assert Origin("http", "localhost", 80, "/x").host_header == "localhost"


def test_ca_file_is_part_of_the_key() -> None:
    assert parse_base_url("https://a", "x.pem")[0] != parse_base_url("https://a")[0]
