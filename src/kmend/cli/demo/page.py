"""report.html: one page that needs nothing else, made from the report and the picture. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kmend.cli.demo import picture
from kmend.cli.demo.report import DemoReport, Observation
from kmend.cli.demo.words import clock, elapsed, milliseconds
from kmend.model.fix import Fix
from kmend.model.lab import LabReport
from kmend.model.livepatch import Livepatch

_WIDE, _NARROW = 1000, 360


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Everything that the page tells."""

    report: DemoReport
    seen: Observation
    fix: Fix
    livepatch: Livepatch
    lab: LabReport


def page(story: Story) -> str:
    """The page as HTML text: no script, no font, no address of any other file."""
    environment = Environment(
        loader=PackageLoader("kmend.cli.demo", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"elapsed": elapsed, "ms": milliseconds, "clock": clock, "thousands": "{:,}".format}
    template = environment.get_template("page.html.j2")
    return template.render(
        report=story.report,
        fix=story.fix,
        livepatch=story.livepatch,
        lab=story.lab,
        pictures=tuple(_pictures(story.seen)),
        diff=tuple(_diff_lines(story.fix.diff)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pictures:
    """One window in both widths."""

    heading: str
    caption: str
    wide: Markup
    narrow: Markup


def _pictures(seen: Observation) -> Iterator[_Pictures]:
    texts = (
        (
            "whole",
            "Half a minute around it",
            picture.whole(seen),
            "One stroke is one heartbeat, about 20 a second.",
        ),
        (
            "close",
            "The moment itself",
            picture.close(seen),
            "Every single heartbeat while the kernel's code was replaced.",
        ),
    )
    for name, heading, window, caption in texts:
        drawn = [
            # What the picture is made of is numbers and escaped names.
            Markup(picture.draw(seen, window, width=width, name=f"{name}-{width}", title=f"Heartbeats: {heading}"))  # noqa: S704
            for width in (_WIDE, _NARROW)
        ]
        yield _Pictures(heading=heading, caption=caption, wide=drawn[0], narrow=drawn[1])


def _diff_lines(diff: str) -> Iterator[tuple[str, str]]:
    """Each line of the diff with its kind."""
    for line in diff.splitlines():
        if line.startswith(("---", "+++")):
            yield "file", line
        else:
            yield {"+": "added", "-": "removed", "@": "place"}.get(line[:1], "same"), line
