"""Who is asked again, and what decides, when one livepatch of a series goes wrong."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from kmend.kit.progress import Silent
from kmend.lab import series
from kmend.lab.channel import LostGuest
from kmend.lab.guest import GuestFault
from kmend.lab.series import run_lab_series
from kmend.model import wire
from kmend.model.lab import LabReport
from makers.nouns import KERNEL, make_built, make_livepatch, make_report


class _Lab:
    """Boots that only remember who was in them; ``sick`` fails in a series, ``sick alone`` fails everywhere."""

    def __init__(self, tmp_path, monkeypatch, **conditions):
        self.boots = []
        self.alone = []
        self.running = 0
        self.conditions = conditions
        self.folders = []
        self.numbers = {}
        for number, name in enumerate("abcdef", 1):
            make_built(tmp_path / name, number)
            (tmp_path / name / "labreport.json").unlink()
            self.folders.append(tmp_path / name)
            self.numbers[number] = name
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(series, "find_accelerator", lambda kit, progress: "tcg")
        monkeypatch.setattr(series, "quick_guest", self._guest)
        monkeypatch.setattr(series, "play_in_series", self._play)
        monkeypatch.setattr(series, "run_lab", self._run_alone)

    @contextmanager
    def _guest(self, kit, place, **words):
        if self.conditions.get("boot") == "fails":
            raise LostGuest("no sign of life")
        self.boots.append("")
        self.running += 1
        try:
            yield None
        finally:
            self.running -= 1

    def _play(self, course, guest, livepatch, module, *, soak):
        name = self.numbers[livepatch.number]
        self.boots[-1] += name
        if (condition := self.conditions.get(name)) and not condition.startswith("only alone"):
            raise (LostGuest if "lost" in condition else GuestFault)(f"load: {condition}")

    def _run_alone(self, kit, folder, *, progress):
        assert self.running == 0
        self.alone.append(folder.name)
        livepatch = make_built(folder, 1)
        return make_report(livepatch, passed="alone" not in self.conditions.get(folder.name, ""))

    def run(self):
        """Name → the reports about it, in order."""
        found = {}
        for folder, report in run_lab_series(SimpleNamespace(kernel=KERNEL), self.folders, progress=Silent()):
            found.setdefault(folder.name, []).append(report)
        return found


def test_all_in_one_boot(tmp_path, monkeypatch):
    """Each gets a report in its own folder that says where in the series it was."""
    lab = _Lab(tmp_path, monkeypatch)
    found = lab.run()
    assert (lab.boots, lab.alone) == (["abcdef"], [])
    assert [report.series_place for (report,) in found.values()] == [1, 2, 3, 4, 5, 6]
    for name, (report,) in found.items():
        assert report.passed
        assert wire.load(LabReport, (tmp_path / name / "labreport.json").read_bytes(), what=name) == report


@pytest.mark.parametrize("how", ["sick, alone too", "lost guest, alone too"])
def test_the_culprit_fails_and_the_rest_gets_a_fresh_boot(tmp_path, monkeypatch, how):
    """What fails alone as well is the culprit; its neighbours pass, and are not asked again."""
    lab = _Lab(tmp_path, monkeypatch, c=how)
    found = lab.run()
    assert lab.boots == ["abc", "def"]
    assert lab.alone == ["c"]
    assert {name: [report.passed for report in reports] for name, reports in found.items()} == {
        **{name: [True] for name in "abdef"},
        "c": [False],
    }


def test_a_neighbour_is_not_blamed(tmp_path, monkeypatch):
    """What holds alone was hit by what went before it in its boot: that is tried alone, and found."""
    lab = _Lab(tmp_path, monkeypatch, c="sick", b="only alone it shows")
    found = lab.run()
    assert lab.boots == ["abc", "def"]
    assert lab.alone == ["c", "a", "b"]
    assert [report.passed for report in found["b"]] == [True, False]
    assert all(found[name][-1].passed for name in "acdef")


def test_a_livepatch_with_probes_gets_a_vm_of_its_own(tmp_path, monkeypatch):
    """Its probes want the whole scenario."""
    lab = _Lab(tmp_path, monkeypatch)
    (tmp_path / "b" / "probes").mkdir()
    (tmp_path / "b" / "probes" / "p.c").write_text("int main(void) { return 0; }\n")
    assert set(lab.run()) == set("abcdef")
    assert (lab.boots, lab.alone) == (["acdef"], ["b"])


def test_a_boot_that_fails_is_nobodys_series(tmp_path, monkeypatch):
    """A VM that does not come up decides nothing: each one is tried alone in the end."""
    lab = _Lab(tmp_path, monkeypatch, boot="fails", c="alone")
    found = lab.run()
    assert lab.alone == list("abcdef")
    assert [name for name, (report,) in found.items() if not report.passed] == ["c"]


def test_whoever_stops_listening_ends_the_vm(tmp_path, monkeypatch):
    """Closing the series in the middle leaves no VM."""
    lab = _Lab(tmp_path, monkeypatch)
    proofs = run_lab_series(SimpleNamespace(kernel=KERNEL), lab.folders, progress=Silent())
    next(proofs)
    assert lab.running == 1
    proofs.close()
    assert lab.running == 0
    assert [folder.name for folder in lab.folders if (folder / "labreport.json").exists()] == ["a"]


def test_reports_of_older_versions_are_read():
    """A labreport.json without the newer fields is one of a livepatch that was alone."""
    old = wire.plain(make_report(make_livepatch()))
    del old["series_place"], old["unreached"]
    read = wire.load(LabReport, json.dumps(old), what="old")
    assert (read.series_place, read.unreached) == (0, ())
