"""A small plan with its fixes, and a builder and lab that answer as told."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.cli.update.merging import Merger
from kmend.cli.update.retaking import Retaker
from kmend.cli.update.work import Shop
from kmend.kit.errors import InputError
from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.fix import Fix, Objection, ObjectionCode
from kmend.model.kernel import Kernel
from kmend.model.lab import LabReport
from kmend.model.livepatch import FixRecord, Livepatch
from kmend.model.update import CveState, PlannedCve, PlannedFix, UpdatePlan

from .cve_records import make_units
from .nouns import KERNEL, make_livepatch, make_report, module_bytes

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


def update_of(folder: Path, old: dict[str, str], new: dict[str, str]) -> Update:
    """An update of two small trees, in which every .c file is built."""
    for side, files in (("old", old), ("new", new)):
        for path, text in files.items():
            (folder / side / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / side / path).write_text(text)
    for side in ("old", "new"):
        (folder / side / "include").mkdir(parents=True, exist_ok=True)
    units = make_units(dict.fromkeys([path for path in new if path.endswith(".c")], "vmlinux"))
    sources = Sources(old=folder / "old", new=folder / "new", old_version="6.1.1-1", new_version="6.1.2-1")
    return Update.between(units, sources, progress=Silent())


_NO_DIFFERENCE = Update({}, Sources(old=Path("/"), new=Path("/"), old_version="6.1.1-1", new_version="6.1.2-1"))


def _no_update() -> Update:
    raise AssertionError("nobody asked for the differences of the update")


class Workshop:
    """Builder and lab that remember what they were asked for.

    ``answers`` says for the name of a fix ``refused``, ``error``, ``crash`` or ``lab``; sets in ``clashes`` do not
    build when all their fixes are there, those in ``unmergeable`` cannot even be applied.
    """

    def __init__(
        self,
        answers: Mapping[str, object] | None = None,
        clashes: Sequence[set[str]] = (),
        unmergeable: Sequence[set[str]] = (),
    ) -> None:
        """Remember the answers."""
        self.unmergeable = unmergeable
        self.answers = dict(answers or {})
        self.clashes = clashes
        self.built: list[tuple[str, ...]] = []
        self.proved: list[str] = []
        self.number, self.kernel = 1, KERNEL

    def shop(self, out: Path, *, lab: bool = True, number: int = 1, kernel: Kernel = KERNEL) -> Shop:
        """The shop around it; its livepatches have that number."""
        self.number, self.kernel = number, kernel
        return Shop(
            build_id=kernel.build_id,
            builds=self._builds,
            proves=self._proves if lab else None,
            out=out,
            retaker=Retaker(make_plan(()), _no_update),
            applies=self._applies,
            merger=lambda _: Merger(_NO_DIFFERENCE, {}),
        )

    def _applies(self, fixes: Sequence[Fix]) -> str:
        names = {fix.name for fix in fixes}
        return next((f"{' and '.join(sorted(two))} clash" for two in self.unmergeable if two <= names), "")

    def _builds(self, fixes: Sequence[Fix], folder: Path) -> Livepatch | tuple[Objection, ...]:
        names = tuple(fix.name for fix in fixes)
        self.built.append(names)
        answer = self.answers.get(names[0]) if len(names) == 1 else None
        if isinstance(answer, BaseException):
            raise answer
        if answer == "refused" or any(clash <= set(names) for clash in self.clashes):
            return (REFUSAL,)
        folder.mkdir(parents=True, exist_ok=True)
        records = tuple(_record(fix) for fix in fixes)
        module = module_bytes(self.number) + repr(records).encode()
        livepatch = replace(make_livepatch(self.number, kernel=self.kernel, module=module), fixes=records)
        (folder / "livepatch.ko").write_bytes(module)
        (folder / "livepatch.json").write_text(wire.dump(livepatch))
        return livepatch

    def _proves(self, folders: Sequence[Path]) -> Iterator[tuple[Path, LabReport]]:
        for folder in folders:
            self.proved.append(folder.name)
            answer = self.answers.get(folder.name)
            if answer == "lab broken":
                raise InputError("no livepatch")
            livepatch = wire.load(Livepatch, (folder / "livepatch.json").read_bytes(), what="")
            report = make_report(livepatch, passed=answer != "lab")
            (folder / "labreport.json").write_text(wire.dump(report))
            yield folder, report


def _record(fix: Fix) -> FixRecord:
    return FixRecord(
        name=fix.name,
        cves=fix.cves,
        title=fix.title,
        origin=fix.origin,
        sha256=hashlib.sha256(fix.diff.encode()).hexdigest(),
    )
