"""The demo's page and its picture."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from tests.makers import demo

from kmend.cli.demo import picture
from kmend.cli.demo.page import page
from kmend.model.lab import ProbeResult

_VOID = {"meta", "br", "hr", "img", "link", "input"}


class Tags(HTMLParser):
    """Collects every tag with its attributes, and holds that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        """Note it."""
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note it; it needs no end."""
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """It must end what was opened last."""
        assert self.open.pop() == tag


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """All tags of a page that is well formed."""
    parser = Tags()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser.seen


def drawn(**options) -> ET.Element:
    """A picture as XML."""
    seen = options.pop("seen", demo.observation())
    window = options.pop("window", picture.whole(seen))
    options = {"width": 1000, "name": "one", "title": "T"} | options
    return ET.fromstring(picture.draw(seen, window, **options))  # noqa: S314 - made here


def test_the_page_needs_nothing_else():
    """No script, no frame, no image or font from anywhere, no address that would be loaded."""
    text = page(demo.run().story())
    names = {name for name, _ in tags(text)}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "video"}
    loads = [(key, value) for _, attributes in tags(text) for key, value in attributes.items()]
    assert not [pair for pair in loads if pair[0] in {"src", "href", "srcset", "data", "action", "poster"}]
    assert not re.search(r"url\(|@import|https?://", text)


def test_the_page_tells_everything():
    """CVE, kernel, containers, diff, functions, proof and timeline are there; text is escaped."""
    text = page(demo.run().story())
    for words in (
        "CVE-2026-52928",
        "6.1.0-47-cloud-amd64",
        "database",
        "unix_ioctl",
        "544 bytes",
        "kmend_1: 1 function replaced",
        "SOCK_STREAM &amp;&amp; cmd &lt; 1",
        "everything held",
    ):
        assert words in text


def test_a_failed_run_does_not_look_like_a_success():
    """The headline says that something did not hold, and the list says what."""
    text = page(demo.run(boot_id_after="another").story())
    assert "not everything held" in text
    assert "Did not hold:" in text
    assert "(did not hold)" in text
    assert "None of them was restarted" not in text


def test_every_picture_can_be_read_aloud():
    """Each picture has a role, a title and a description that its label refers to; no id is used twice."""
    found = tags(page(demo.run().story()))
    pictures = [attributes for name, attributes in found if name == "svg" and "aria-hidden" not in attributes]
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(pictures) == 4
    assert len(ids) == len(set(ids))
    for attributes in pictures:
        assert attributes["role"] == "img"
        assert set(attributes["aria-labelledby"].split()) <= set(ids)


@pytest.mark.parametrize("width", [1000, 360])
def test_a_picture_has_one_stroke_per_heartbeat(width):
    """Every heartbeat in the window is drawn, none outside, and nothing leaves the canvas."""
    seen = demo.observation()
    window = picture.close(seen)
    root = drawn(seen=seen, window=window, width=width)
    strokes = [path.get("d", "") for path in root.findall("path") if path.get("class") == "beat"]
    for beats, stroke in zip(seen.heartbeats.values(), strokes, strict=True):
        places = [float(x) for x in re.findall(r"M([\d.]+)", stroke)]
        assert len(places) == sum(window.begin <= at <= window.end for at in beats)
        assert min(places) >= 0
        assert max(places) <= width


def test_a_picture_shows_each_verdict_by_shape():
    """Vulnerable, fixed and unknown can be told apart without colours."""
    seen = demo.observation()
    seen = replace(seen, verdicts=(*seen.verdicts, (seen.verdicts[-1][0] + 1, ProbeResult.UNKNOWN)))
    root = drawn(seen=seen, window=picture.Window(begin=seen.verdicts[0][0], end=seen.verdicts[-1][0]))
    kinds = [child.get("class") for child in root]
    assert kinds.count("open") == sum(verdict == "vulnerable" for _, verdict in seen.verdicts)
    assert kinds.count("closed") == sum(verdict == "fixed" for _, verdict in seen.verdicts)
    assert kinds.count("unknown") == 1


def test_a_container_may_have_any_name():
    """Names are escaped."""
    seen = replace(demo.observation(), heartbeats={"<b>&": (demo.LOADED, demo.LOADED + 50)})
    assert "<b>&" in [text.text for text in drawn(seen=seen).iter("text")]


def test_the_windows_stay_with_what_was_seen():
    """The wide window ends where the notes end; the close one holds load, transition and flip."""
    seen = demo.observation()
    short = replace(seen, heartbeats=demo.hearts(seconds=10))
    wide, close = picture.whole(short), picture.close(seen)
    assert wide.begin >= demo.LOADED - 5000
    assert wide.end <= demo.LOADED + 5000
    assert all(map(close.has, (seen.loaded, seen.transition_end, seen.flipped)))
    assert close.end - close.begin < 5000


def test_words_tell_the_same_as_the_picture():
    """The description has counts, pauses, transition and flip."""
    seen = demo.observation()
    words = picture.describe(seen, picture.whole(seen))
    assert "transition took 1.4 s" in words
    assert re.search(r"web \d+ heartbeats with a longest pause of \d+ ms", words)
    assert re.search(r"fixed (\d+ ms|1\.\d s) after loading", words)
