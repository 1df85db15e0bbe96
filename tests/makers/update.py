"""A small plan with its fixes, and a builder and lab that answer as told."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kmend.build.closure import Update
from kmend.cli.update.retaking import Retaker
from kmend.cli.update.work import Shop
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.fix import Fix, Objection, ObjectionCode
from kmend.model.lab import LabReport
from kmend.model.livepatch import Livepatch
from kmend.model.update import CveState, PlannedCve, PlannedFix, UpdatePlan

from .nouns import KERNEL, make_livepatch, make_report

REFUSAL = Objection(
    code=ObjectionCode.COMPILE_FAILED,
    place="fs/a.c",
    reason="it does not compile.",
    advice="Do otherwise.",
    evidence=("fs/a.c: In function f:", "/tmp/x/fs/a.c:1:2: error: no such name"),
)


def make_fixes(*names: str) -> tuple[Fix, ...]:
    """One fix of one file for each name; the CVE is the name in capitals."""
    return tuple(
        Fix(
            name=name,
            cves=(f"CVE-2026-{1000 + at}",),
            title=name,
            diff=f"--- a/fs/{name}.c\n+++ b/fs/{name}.c\n@@ -1,1 +1,1 @@\n-int a;\n+int b;\n",
            origin="test",
        )
        for at, name in enumerate(names)
    )


def make_plan(fixes: Sequence[Fix], states: Mapping[str, CveState] | None = None) -> UpdatePlan:
    """A plan with a row for each fix, and one for each CVE in ``states``."""
    rows = {fix.cves[0]: (CveState.FIX, fix.name) for fix in fixes}
    rows |= {cve: (state, "") for cve, state in (states or {}).items()}
    cves = tuple(
        PlannedCve(
            cve=cve,
            title=f"title of {cve} <b>",
            severity="high",
            score=7.8,
            files=("fs/a.c",),
            sources=("fs/a.c",),
            named=(),
            objects=("vmlinux",),
            commit="",
            state=state,
            code="" if fix else f"code-{state}",
            reason="" if fix else "because",
            fix=fix,
        )
        for cve, (state, fix) in rows.items()
    )
    planned = tuple(
        PlannedFix(name=fix.name, cves=fix.cves, files=("fs/a.c",), objects=(), exact=True) for fix in fixes
    )
    return UpdatePlan(kernel=KERNEL, to_version="6.1.192-2", cves=cves, fixes=planned)


def _no_update() -> Update:
    raise AssertionError("nobody asked for the differences of the update")


class Workshop:
    """Builder and lab that remember what they were asked for.

    ``answers`` says for the name of a fix ``refused``, ``error``, ``crash`` or ``lab``; sets in ``clashes`` do not
    build when all their fixes are there.
    """

    def __init__(self, answers: Mapping[str, object] | None = None, clashes: Sequence[set[str]] = ()) -> None:
        """Remember the answers."""
        self.answers = dict(answers or {})
        self.clashes = clashes
        self.built: list[tuple[str, ...]] = []
        self.proved: list[str] = []

    def shop(self, out: Path, *, lab: bool = True) -> Shop:
        """The shop around it."""
        return Shop(
            build_id=KERNEL.build_id,
            builds=self._builds,
            proves=self._proves if lab else None,
            out=out,
            retaker=Retaker(make_plan(()), _no_update),
        )

    def _builds(self, fixes: Sequence[Fix], folder: Path) -> Livepatch | tuple[Objection, ...]:
        names = tuple(fix.name for fix in fixes)
        self.built.append(names)
        answer = self.answers.get(names[0]) if len(names) == 1 else None
        if isinstance(answer, BaseException):
            raise answer
        if answer == "refused" or any(clash <= set(names) for clash in self.clashes):
            return (REFUSAL,)
        livepatch = make_livepatch()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "livepatch.json").write_text(wire.dump(livepatch))
        return livepatch

    def _proves(self, folders: Sequence[Path]) -> Iterator[tuple[Path, LabReport]]:
        for folder in folders:
            self.proved.append(folder.name)
            answer = self.answers.get(folder.name)
            if answer == "lab broken":
                raise InputError("no livepatch")
            yield folder, make_report(make_livepatch(), passed=answer != "lab")
