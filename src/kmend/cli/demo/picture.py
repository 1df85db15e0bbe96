"""The picture of the heartbeats: SVG from an Observation. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from kmend.cli.demo.report import Observation, longest_gap
from kmend.cli.demo.words import milliseconds
from kmend.model.lab import ProbeResult

_LANE = 34
_TICK = 18
_FIRST_ROW, _SECOND_ROW, _TOP = 20, 38, 56
_ROOM = 110
_AXIS = 34
_WIDE = 600
_STEPS = (50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of time, in ms since 1970."""

    begin: int
    end: int

    def has(self, at: int) -> bool:
        """Whether a moment lies in it."""
        return self.begin <= at <= self.end


def whole(seen: Observation, *, before: int = 15_000, after: int = 20_000) -> Window:
    """Some seconds before loading until some seconds after the transition, as far as anything was seen."""
    everything = [at for beats in seen.heartbeats.values() for at in (*beats[:1], *beats[-1:])]
    return Window(
        begin=max(seen.loaded - before, min(everything, default=seen.loaded - before)),
        end=min(seen.transition_end + after, max(everything, default=seen.transition_end + after)),
    )


def close(seen: Observation) -> Window:
    """The moment itself: loading, transition and flip, with a little on both sides."""
    last = max(seen.transition_end, min(seen.flipped or 0, seen.transition_end + 5000))
    margin = max(600, (last - seen.loaded) // 4)
    return Window(begin=seen.loaded - margin, end=last + margin)


def draw(seen: Observation, window: Window, *, width: int, name: str, title: str) -> str:
    """One picture as a self-contained ``<svg>``; its colours are the page's CSS variables.

    Args:
        seen: What was observed.
        window: Which part of it is drawn.
        width: In px; below 600 the names stand above their lanes.
        name: Makes ids unique in the page.
        title: Read to those who cannot see it.
    """
    canvas = _Canvas(window=window, width=width, lanes=1 + len(seen.heartbeats))
    parts = [
        f'<svg class="picture" viewBox="0 0 {width} {canvas.height}" role="img"',
        f'  aria-labelledby="{name}-title {name}-desc">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(describe(seen, window))}</desc>',
        *canvas.transition(seen),
        *canvas.axis(seen.loaded),
        *canvas.probe_lane(seen),
    ]
    for number, (container, beats) in enumerate(seen.heartbeats.items(), start=1):
        parts += canvas.heart_lane(number, container, beats)
    parts += canvas.marks(seen)
    return "\n".join([*parts, "</svg>"])


def describe(seen: Observation, window: Window) -> str:
    """The picture in words."""
    hearts = ", ".join(
        f"{name} {sum(map(window.has, beats))} heartbeats with a longest pause of "
        f"{longest_gap(beats, window.begin, window.end):.0f} ms"
        for name, beats in seen.heartbeats.items()
    )
    flip = (
        "The probe did not say fixed."
        if seen.flipped is None
        else f"The probe said fixed {milliseconds(seen.flipped - seen.loaded)} after loading."
    )
    return (
        f"{(window.end - window.begin) / 1000:.0f} seconds, one stroke for each heartbeat: {hearts}. "
        f"The livepatch was loaded at 0 s; its transition took "
        f"{milliseconds(seen.transition_end - seen.transition_begin)}. {flip}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Canvas:
    """Where things go."""

    window: Window
    width: int
    lanes: int

    @property
    def narrow(self) -> bool:
        return self.width < _WIDE

    @property
    def left(self) -> int:
        return 6 if self.narrow else 104

    @property
    def right(self) -> int:
        return self.width - (6 if self.narrow else 118)

    @property
    def lane(self) -> int:
        return _LANE + (16 if self.narrow else 0)

    @property
    def bottom(self) -> int:
        return _TOP + self.lanes * self.lane

    @property
    def height(self) -> int:
        return self.bottom + _AXIS

    def x(self, at: float) -> float:
        share = (at - self.window.begin) / (self.window.end - self.window.begin)
        return round(self.left + share * (self.right - self.left), 1)

    def middle(self, number: int) -> float:
        return _TOP + number * self.lane + self.lane / 2 + (8 if self.narrow else 0)

    def label(self, number: int, text: str, remark: str) -> Iterator[str]:
        middle = self.middle(number)
        if self.narrow:
            above = middle - _TICK / 2 - 5
            yield _text("name", self.left, above, text)
            yield _text("remark", self.right, above, remark, anchor="end")
        else:
            yield _text("name", self.left - 12, middle + 4, text, anchor="end")
            yield _text("remark", self.right + 10, middle + 4, remark)

    def transition(self, seen: Observation) -> Iterator[str]:
        begin, end = self.x(seen.transition_begin), self.x(seen.transition_end)
        yield (
            f'<rect class="transition" x="{begin}" y="{_TOP - 8}" width="{max(end - begin, 1.5):.1f}" '
            f'height="{self.bottom - _TOP + 8}"/>'
        )

    def axis(self, zero: int) -> Iterator[str]:
        yield f'<path class="axis" d="M{self.left} {self.bottom}.5H{self.right}"/>'
        most = 5 if self.narrow else 10
        length = self.window.end - self.window.begin
        step = next((step for step in _STEPS if length / step <= most), _STEPS[-1])
        first = -((zero - self.window.begin) // step)
        for number in range(first, (self.window.end - zero) // step + 1):
            x = self.x(zero + number * step)
            yield f'<path class="grid" d="M{x} {_TOP - 8}V{self.bottom + 4}"/>'
            text = f"{number * step / 1000:+g} s" if number else "0"
            # At the ends of a narrow picture the words would be cut.
            anchor = "end" if x > self.width - 16 else "start" if x < 16 else "middle"  # noqa: PLR2004
            yield _text("scale", x, self.bottom + 20, text, anchor=anchor)

    def probe_lane(self, seen: Observation) -> Iterator[str]:
        middle = self.middle(0)
        yield from self.label(0, "probe", "")
        for at, verdict in seen.verdicts:
            if self.window.has(at):
                yield _verdict(self.x(at), middle, verdict)

    def heart_lane(self, number: int, container: str, beats: tuple[int, ...]) -> Iterator[str]:
        middle = self.middle(number)
        pause = longest_gap(beats, self.window.begin, self.window.end)
        yield from self.label(number, container, f"pause ≤ {pause:.0f} ms")
        strokes = "".join(f"M{self.x(at):g} {middle - _TICK / 2:g}v{_TICK}" for at in beats if self.window.has(at))
        thin = (self.right - self.left) / (self.window.end - self.window.begin) * 50
        yield f'<path class="beat" style="stroke-width:{min(2.0, max(0.5, thin * 0.45)):.2f}" d="{strokes}"/>'

    def marks(self, seen: Observation) -> Iterator[str]:
        """Loading and flip as lines with words on top, each in a row of its own."""
        load = self.x(seen.loaded)
        took = f"transition {milliseconds(seen.transition_end - seen.transition_begin)}"
        yield f'<path class="load" d="M{load} {_FIRST_ROW - 9}V{self.bottom}"/>'
        yield _text("mark", load - 6, _FIRST_ROW, "loaded", anchor="end")
        yield _text("mark amber", load + 6, _FIRST_ROW, took)
        if seen.flipped is not None and self.window.has(seen.flipped):
            flip = self.x(seen.flipped)
            yield f'<path class="flip" d="M{flip} {_SECOND_ROW - 9}V{self.bottom}"/>'
            late = flip > self.right - _ROOM
            yield _text(
                "mark good",
                flip + (-6 if late else 6),
                _SECOND_ROW,
                "probe says fixed",
                anchor="end" if late else "",
            )


def _text(kind: str, x: float, y: float, words: str, *, anchor: str = "") -> str:
    end = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{end}>{escape(words)}</text>'


def _verdict(x: float, y: float, verdict: ProbeResult) -> str:
    """A cross, a dot or a dash: the shapes tell as much as the colours."""
    if verdict is ProbeResult.VULNERABLE:
        return f'<path class="open" d="M{x - 3:g} {y - 3:g}l6 6m0-6l-6 6"/>'
    if verdict is ProbeResult.FIXED:
        return f'<circle class="closed" cx="{x:g}" cy="{y:g}" r="3.4"/>'
    return f'<path class="unknown" d="M{x - 3:g} {y:g}h6"/>'
