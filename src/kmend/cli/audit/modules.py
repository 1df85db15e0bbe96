"""``kmend audit modules``: which kernel modules nothing here needs, and a file that keeps them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from kmend.audit import use
from kmend.audit.check import Case
from kmend.audit.needless import RARE, Needs, modprobe_file, needs, used_now
from kmend.cli.facts import facts_of, facts_options
from kmend.cli.output import show_json
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.kit.printable import printable
from kmend.model.facts import Facts

_ENOUGH = timedelta(days=7)
_WIDTH = 100


def learn(facts: Facts, *, live: bool, file: Path = use.FILE) -> use.ModuleUse | None:
    """What was seen in use up to now; on the host itself this look is added, by root.

    Raises:
        InputError: What was seen cannot be read.
    """
    known = use.load(file) if live else None
    if live and os.geteuid() == 0:
        known = use.seen(known, used_now(Case(facts=facts)), now=facts.collected)
        use.save(known, file)
    return known


@click.command()
@facts_options
@click.option(
    "--write", "out", type=click.Path(path_type=Path, dir_okay=False), help="Write the file for modprobe.d."
)
@click.option("--rare", is_flag=True, help="Keep out only rare protocols, file systems and buses.")
@click.option("--why", "names", multiple=True, metavar="MODULE", help="Say why a module is kept; may be repeated.")
@click.option("--no-learn", is_flag=True, help="Do not note which modules are in use now.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def modules(
    facts: Path | None,
    root: Path,
    out: Path | None,
    *,
    rare: bool,
    names: tuple[str, ...],
    no_learn: bool,
    as_json: bool,
) -> int:
    """Find modules that nothing here needs, and keep them out.

    Without --write this is a dry run: it says what would be kept out. Needed is what is in use now or was on an
    earlier day, what hardware, mounts or the boot ask for, and what engines and network plugins may ask for. Run
    it for a week (`kmend audit` notes it too) before you trust it: what is used on Sundays is seen on Sundays.

    The file is read by modprobe. Nothing is unloaded; remove the file to take it back.
    """
    seen = facts_of(facts, root)
    live = facts is None and root == Path("/")
    known = learn(seen, live=live and not no_learn)
    case = Case(facts=seen, used_modules=frozenset(known.last if known else ()))
    if seen.modules.available is None:
        raise InputError("The modules of this kernel were not seen.", hint="Is /lib/modules/$(uname -r) here?")
    found = needs(case)
    if names:
        for name in names:
            bare = name.replace("-", "_")
            click.echo(f"{printable(name)}: it {found.why.get(bare, 'is needed by nothing that was seen')}.")
        return 0
    chosen = _chosen(found, rare=rare)
    if out is not None:
        write_atomic(out, modprobe_file(case, chosen))
    if as_json:
        show_json(_as_json(found, chosen, known, out))
        return 0
    for line in _lines(found, chosen, known):
        click.echo(line)
    click.echo(f"Written: {out}." if out else "Nothing was changed; --write FILE writes the file for modprobe.d.")
    return 0


def _chosen(found: Needs, *, rare: bool) -> tuple[str, ...]:
    names = sorted({*found.idle, *found.on_demand})
    return tuple(name for name in names if name in RARE) if rare else tuple(names)


def _lines(found: Needs, chosen: tuple[str, ...], known: use.ModuleUse | None) -> Iterator[str]:
    yield f"{len(found.why)} modules are needed; {len(found.blocked)} that are not are kept out already."
    idle = [name for name in chosen if name in found.idle]
    for title, names in (
        ("Loaded, and needed by nothing", idle),
        ("Loaded when somebody asks, and needed by nothing", [name for name in chosen if name not in found.idle]),
    ):
        yield ""
        yield click.style(f"{title}: {len(names)}", bold=True)
        yield from click.wrap_text(" ".join(names), _WIDTH, "  ", "  ").splitlines()
    yield ""
    yield _learned(known)


def _learned(known: use.ModuleUse | None) -> str:
    if known is None:
        return "What was in use on earlier days is not known here."
    last = max(known.last.values(), default=known.since)
    days = (last - known.since).days
    short = " That is short: run it for a week before you trust it." if last - known.since < _ENOUGH else ""
    return f"Use was noted {known.looks} times over {days} days.{short}"


def _as_json(
    found: Needs, chosen: tuple[str, ...], known: use.ModuleUse | None, out: Path | None
) -> dict[str, Any]:
    return {
        "format": 1,
        "needed": dict(sorted(found.why.items())),
        "idle": list(found.idle),
        "on_demand": list(found.on_demand),
        "blocked": list(found.blocked),
        "chosen": list(chosen),
        "looks": known.looks if known else 0,
        "since": known.since.isoformat() if known else None,
        "written": str(out) if out else None,
    }
