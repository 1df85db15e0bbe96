"""``kmend update watch`` with a real repository and keys, and stand-ins for kits, sources, builder and lab."""

import gzip
import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kmend.cli import main
from kmend.cli.update import rounds, steps, watch, watch_config
from kmend.kernels import store
from kmend.kit.errors import MachineError, ProgramError, SourceError
from kmend.kit.files import lock
from kmend.release.status import published
from makers.cve_records import make_units, record, write_records, write_tree
from makers.nouns import KERNEL
from makers.repository import SimulatedRepository
from makers.update import Workshop

RELEASE = KERNEL.release
VERSIONS = ("6.1.170-3", "6.1.192-2", "6.1.195-1")
FILES = {"CVE-2026-1000": ("fs/a.c", 1), "CVE-2026-1001": ("net/b.c", 2)}
"""Each CVE's file, and the first version that closes it."""


class Watched:
    """The sources as they are now, the watcher's folder, and what it is told."""

    def __init__(self, folder, monkeypatch, template):
        """One kernel in care; the sources offer nothing newer."""
        self.folder, self.out, self.monkeypatch = folder, folder / "work", monkeypatch
        self.repository = SimulatedRepository(folder / "signed", template=template)
        self.keys = {
            "kernels": [RELEASE],
            "out": "work",
            "repo": "signed/repo",
            "keys": "signed/keys",
            "cve_records": "vulns",
            "renew": False,
        }
        self.newest, self.kernel = VERSIONS[0], KERNEL
        self.shop = Workshop()
        for at, version in enumerate(VERSIONS):
            write_tree(folder / version, {file: at >= first for file, first in FILES.values()})
        (folder / "changelog.gz").write_bytes(gzip.compress(_changelog().encode()))
        write_records(folder / "vulns", *(record(cve, file) for cve, (file, _) in FILES.items()))
        monkeypatch.setattr(store, "fetch", self._kit)
        monkeypatch.setattr(store, "newest_source", lambda series: self.newest)
        monkeypatch.setattr(store, "is_newer", lambda one, two: VERSIONS.index(one) > VERSIONS.index(two))
        monkeypatch.setattr(store, "source", lambda series, version, progress: folder / version)
        monkeypatch.setattr(store, "changelog", lambda version: folder / "changelog.gz")
        units = make_units({"fs/a.c": "vmlinux", "net/b.c": "b"})
        monkeypatch.setattr(steps, "units", lambda kit, progress: units)
        monkeypatch.setattr(steps, "real_shop", self._shop)

    def _kit(self, release, *, progress):
        if release != self.kernel.release:
            raise SourceError(f"{release} has left the archive.", hint="Too late.")
        return SimpleNamespace(kernel=self.kernel, source=self.folder / VERSIONS[0])

    def _shop(self, kit, made, out, *, lab, number):
        return self.shop.shop(out, lab=lab, number=number, kernel=kit.kernel)

    def run(self, *words):
        """Type a command; the exit code."""
        self.monkeypatch.setattr("sys.argv", ["kmend", *map(str, words)])
        return main.run_command(main.kmend)

    def write_config(self, **keys):
        """Write the file with these keys changed (None: left out)."""
        values = {key: value for key, value in (self.keys | keys).items() if value is not None}
        path = self.folder / "watch.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        return path

    def round(self, *words, **keys):
        """One round; the exit code."""
        return self.run("update", "watch", "--once", "--config", self.write_config(**keys), *words)

    def rows(self):
        """Release → its row in watch.json."""
        found = json.loads((self.out / "watch.json").read_text())
        return {row["release"]: row for row in found["kernels"]}

    def said(self, release=RELEASE):
        """Outcome and reason of a kernel."""
        row = self.rows()[release]
        return row["outcome"], row["reason"]

    def published(self):
        """Channel, number and CVEs of all that is published for the kernel."""
        found = published(self.repository.repo, self.repository.keys, build_id=KERNEL.build_id)
        return [(channel, entry.livepatch.number, entry.livepatch.cves) for channel, entry in found]


def _changelog():
    entries = []
    for at, version in reversed(list(enumerate(VERSIONS))):
        items = [f"  * fix it ({cve})" for cve, (_, first) in FILES.items() if first == at] or ["  * older"]
        entries.append(
            f"linux ({version}) bookworm; urgency=high\n\n" + "\n".join(items) + "\n\n"
            " -- A <a@example.org>  Sat, 07 Nov 2026 11:17:40 +0100\n\n"
        )
    return "".join(entries)


@pytest.fixture
def watched(tmp_path, monkeypatch, empty_template):
    """A watcher's world."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Watched(tmp_path, monkeypatch, empty_template)


FIRST = ("edge", 1, ("CVE-2026-1000",))
SECOND = ("edge", 2, ("CVE-2026-1000", "CVE-2026-1001"))


def test_nothing_new_is_nothing_done(watched, capsys):
    """The sources offer what the kernel is: exit code 0, and nobody builds."""
    assert watched.round() == 0
    assert watched.said() == ("current", "Nothing newer than 6.1.170-3 is offered.")
    assert (watched.shop.built, watched.published()) == ([], [])
    assert "current" in capsys.readouterr().out


def test_a_new_version_is_published_and_then_left_alone(watched):
    """It is in edge with what it closes, and the next round does nothing."""
    watched.newest = VERSIONS[1]
    assert watched.round() == 0
    assert watched.published() == [FIRST]
    assert watched.said() == ("published", "Livepatch 1 is out; it closes 1 of 1 CVEs.")
    built = list(watched.shop.built)
    assert watched.round() == 0
    assert (watched.shop.built, watched.published()) == (built, [FIRST])


def test_the_next_version_is_cumulative_and_its_number_rises(watched):
    """What did not change since is not built alone again, and the new livepatch holds it too."""
    for version in VERSIONS[1:]:
        watched.newest = version
        assert watched.round() == 0
    assert watched.published() == [FIRST, SECOND]
    alone = [names for names in watched.shop.built if len(names) == 1]
    assert alone == [("CVE-2026-1000",), ("CVE-2026-1000",), ("CVE-2026-1001",)]


def test_a_version_that_changes_nothing_here_publishes_nothing(watched):
    """The livepatch of the version before is what the new version needs."""
    write_records(watched.folder / "one", record("CVE-2026-1000", "fs/a.c"))
    for version in VERSIONS[1:]:
        watched.newest = version
        assert watched.round(cve_records="one") == 0
    assert watched.published() == [FIRST]
    assert watched.rows()[RELEASE]["worked_off"] == VERSIONS[2]


def test_a_person_approves_with_the_command_that_is_said(watched):
    """It waits with exit code 10 until the command was typed; then it counts as published."""
    watched.newest = VERSIONS[1]
    assert watched.round(approval="person") == 10
    assert watched.published() == []
    row = watched.rows()[RELEASE]
    assert (row["outcome"], row["reason"]) == ("waits", "A person has to approve it.")
    built = list(watched.shop.built)
    assert watched.round(approval="person") == 10
    command = row["advice"].partition(": ")[2]
    assert watched.run(*shlex.split(command)[1:]) == 0
    assert watched.round(approval="person") == 0
    assert (watched.said()[0], watched.published(), watched.shop.built) == ("published", [FIRST], built)


def test_approval_can_be_switched_off(watched):
    """What waited goes out with the setting."""
    watched.newest = VERSIONS[1]
    assert watched.round(approval="person") == 10
    assert watched.round() == 0
    assert watched.published() == [FIRST]


def test_what_no_vm_proved_waits_and_is_proven_later(watched):
    """With lab = "none" nothing goes out; with lab = "quick" the same fixes go out without being built anew."""
    watched.newest = VERSIONS[1]
    assert watched.round(lab="none") == 10
    assert watched.said() == ("waits", "No VM has proven it.")
    assert watched.rows()[RELEASE]["advice"].startswith("To let it out: kmend lab run ")
    assert (watched.shop.proved, watched.published()) == ([], [])
    assert watched.round() == 0
    assert watched.published() == [FIRST]


def test_what_the_lab_does_not_pass_is_not_published(watched):
    """It is a failure, said again in each round, and not built over and over."""
    watched.shop = Workshop({"CVE-2026-1000": "lab"})
    watched.newest = VERSIONS[1]
    assert watched.round() == 1
    assert watched.said()[0] == "failed"
    built = list(watched.shop.built)
    assert watched.round() == 1
    assert (watched.shop.built, watched.published()) == (built, [])


def test_when_nothing_can_be_made_it_is_said(watched):
    """A refused fix is no failure: exit code 0, and the reason in watch.json."""
    watched.shop = Workshop({"CVE-2026-1000": "refused"})
    watched.newest = VERSIONS[1]
    assert watched.round() == 0
    assert watched.said() == ("nothing", "No livepatch came of 6.1.192-2, which closes 1 CVEs.")
    assert watched.rows()[RELEASE]["fates"] == {"refused": 1}


def test_an_error_gets_a_second_chance_at_once(watched):
    """A program that failed once is no reason to leave a CVE open."""
    watched.newest = VERSIONS[1]
    watched.shop = Workshop({"CVE-2026-1000": ProgramError("killed")})
    real = rounds.build_plan

    def second_time_good(*args, **options):
        made = real(*args, **options)
        watched.shop.answers.clear()
        return made

    watched.monkeypatch.setattr(rounds, "build_plan", second_time_good)
    assert watched.round() == 0
    assert watched.published() == [FIRST]


def test_one_kernel_that_fails_does_not_stop_the_others(watched, capsys):
    """A kernel whose kit cannot be had is exit code 1, and the next one is published all the same."""
    watched.newest = VERSIONS[1]
    assert watched.round(kernels=["6.1.0-1-amd64", RELEASE]) == 1
    assert watched.said("6.1.0-1-amd64") == ("failed", "6.1.0-1-amd64 has left the archive.")
    assert watched.published() == [FIRST]
    out = capsys.readouterr().out
    assert "Too late." in out
    assert "closes 1 of 1" in out


def test_a_bug_with_one_kernel_does_not_stop_the_others(watched):
    """Neither does what kmend did not foresee, and the next round tries again."""
    watched.newest = VERSIONS[1]
    with watched.monkeypatch.context() as broken:
        broken.setattr(rounds, "make_plan", lambda *_, **__: {}["x"])
        assert watched.round() == 1
    assert watched.said() == ("failed", "KeyError: 'x'")
    assert watched.round() == 0
    assert watched.published() == [FIRST]


def test_what_lies_ready_survives_a_failed_publishing(watched):
    """The repository could not be written: the work is done all the same, and goes out in the next round."""
    watched.newest = VERSIONS[1]
    with watched.monkeypatch.context() as broken:
        broken.setattr(rounds, "publish", _refused)
        assert watched.round() == 1
    row = watched.rows()[RELEASE]
    assert (row["outcome"], row["reason"]) == ("failed", "The disk is full.")
    assert (row["worked_off"], row["number"]) == (VERSIONS[1], 1)
    assert watched.round() == 0
    assert watched.published() == [FIRST]


def _refused(*_, **__):
    raise MachineError("The disk is full.")


def test_another_kernel_of_the_same_name_is_worked_off_anew(watched):
    """What counts is the build id: nothing of the old kernel's work is published for the new one."""
    watched.newest = VERSIONS[1]
    assert watched.round() == 0
    watched.kernel = replace(KERNEL, build_id="ef" * 20)
    assert watched.round() == 0
    (found,) = published(watched.repository.repo, watched.repository.keys, build_id="ef" * 20)
    assert (found[1].livepatch.number, found[1].livepatch.cves) == (1, FIRST[2])
    assert watched.rows()[RELEASE]["kernel"]["build_id"] == "ef" * 20


@pytest.mark.parametrize(
    "moment", ["make_plan", "save_plan", "build_plan", "_livepatch", "_make_ready", "_keep", "publish", "_is_out"]
)
def test_killed_at_any_step_the_next_start_ends_the_work(watched, moment):
    """Whatever the step was, one livepatch with number 1 is published in the end."""
    watched.newest = VERSIONS[1]
    with watched.monkeypatch.context() as killed:
        killed.setattr(rounds, moment, _killed)
        assert watched.round() == 130
    assert watched.round() == 0
    assert watched.published() == [FIRST]
    assert watched.said()[0] == "published"
    assert watched.shop.built.count(("CVE-2026-1000",)) == 2


def _killed(*_, **__):
    raise KeyboardInterrupt


def test_killed_while_building_it_goes_on_with_the_rest(watched):
    """Neither the plan nor what was built before is made again."""
    watched.newest = VERSIONS[2]
    watched.shop = Workshop({"CVE-2026-1001": KeyboardInterrupt()})
    assert watched.round() == 130
    watched.shop = Workshop()
    watched.monkeypatch.setattr(rounds, "make_plan", _killed)
    assert watched.round() == 0
    assert watched.shop.built == [("CVE-2026-1001",), ("CVE-2026-1000", "CVE-2026-1001")]
    assert watched.published() == [("edge", 1, SECOND[2])]


def test_the_number_follows_what_others_published(watched):
    """Somebody took the number while this one waited: it is built again with the next, once proven it goes out."""
    watched.newest = VERSIONS[1]
    assert watched.round(approval="person") == 10
    watched.monkeypatch.setattr(rounds, "_lost", lambda *_: [])
    watched.repository.publish(7)
    assert watched.round() == 0
    assert watched.published()[-1] == ("edge", 8, FIRST[2])


def test_what_would_open_a_hole_again_waits_for_a_person(watched):
    """A livepatch by hand closes more than the derived one: a person decides."""
    by_hand = watched.repository.publish(1).livepatch
    watched.newest = VERSIONS[1]
    assert watched.round() == 10
    outcome, reason = watched.said()
    assert outcome == "waits"
    assert reason == f"It would open again what edge closes now: {', '.join(by_hand.cves)}."
    assert len(watched.published()) == 1


def test_a_second_watcher_is_refused(watched, capsys):
    """The work folder belongs to one."""
    with lock(watched.out / ".watch.lock", what="the first"):
        assert watched.round() == 1
    assert "under way" in capsys.readouterr().err


def test_json_is_what_watch_json_says(watched, capsys):
    """For programs."""
    watched.round("--json")
    assert json.loads(capsys.readouterr().out) == json.loads((watched.out / "watch.json").read_text())


def test_it_goes_on_until_it_is_interrupted(watched):
    """A version that appears between two rounds is published; Ctrl-C ends it with exit code 0."""
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        watched.newest = VERSIONS[1]
        if len(slept) == 2:
            raise KeyboardInterrupt

    watched.monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep))
    assert watched.run("update", "watch", "--config", watched.write_config(interval_minutes=7)) == 0
    assert slept == [420, 420]
    assert watched.published() == [FIRST]


def test_lists_and_records_are_renewed_first(watched):
    """A record that its repository gained counts in the same round."""
    upstream = watched.folder / "upstream"
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", upstream)
    write_records(upstream, record("CVE-2026-1000", "fs/a.c"))
    subprocess.run(["git", "init", "-q", upstream], check=True)
    _commit(git)
    subprocess.run(["git", "clone", "-q", upstream, watched.folder / "clone"], check=True)
    write_records(upstream, record("CVE-2026-1001", "net/b.c"))
    _commit(git)
    watched.monkeypatch.setattr(store, "renew", lambda: setattr(watched, "newest", VERSIONS[2]))
    assert watched.round(renew=True, cve_records="clone") == 0
    assert watched.published() == [("edge", 1, SECOND[2])]


def _commit(git):
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "records"], check=True)


def test_lists_that_cannot_be_renewed_are_a_problem_but_no_end(watched, capsys):
    """Exit code 1 and the reason; the kernels have their turn with the old lists."""

    def renew():
        raise SourceError("No network.", hint="Check it.")

    watched.newest = VERSIONS[1]
    watched.monkeypatch.setattr(store, "renew", renew)
    assert watched.round(renew=True) == 1
    assert "problem   No network. Check it." in capsys.readouterr().out
    assert watched.published() == [FIRST]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kernels": None}, "lacks kernels"),
        ({"kernels": []}, "list of releases"),
        ({"kernels": "6.1.0-47-amd64"}, "list of releases"),
        ({"kernels": [RELEASE, RELEASE]}, "twice"),
        ({"kernels": ["../x"]}, "not a kernel release"),
        ({"out": 3}, "out must be a path"),
        ({"channel": "stable"}, "The channel is always edge"),
        ({"approval": "yes"}, "'none' or 'person'"),
        ({"lab": "host"}, "'quick' or 'none'"),
        ({"jobs": 0}, "from 1 to 64"),
        ({"jobs": True}, "from 1 to 64"),
        ({"interval_minutes": 1.5}, "number from 1"),
        ({"renew": "yes"}, "true or false"),
        ({"cve_records": "nowhere"}, "there is no"),
        ({"repo": "nowhere"}, "nowhere"),
        ({"keys": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_settings_are_named(watched, capsys, keys, said):
    """The error says which key and what it may be, before anything is done."""
    assert watched.round(**keys) == 1
    assert said in capsys.readouterr().err
    assert not (Path("work") / "watch.json").exists()


def test_the_page_has_every_key_and_an_example_that_is_valid(tmp_path):
    """docs/howto/update.md is what the errors point at."""
    text = (Path(__file__).parents[4] / "docs/howto/update.md").read_text()
    path = tmp_path / "watch.toml"
    path.write_text(
        text.partition("```toml\n")[2].partition("```")[0].replace("/var/lib/kmend-watch/vulns", str(tmp_path))
    )
    assert watch_config.load(path).kernels
    assert [key for key in watch_config._KEYS if f"`{key}`" not in text] == []


def test_no_two_services_own_the_same_folder():
    """Systemd gives a service's state folder to its user at each start; the page's paths lie in the watcher's."""
    root = Path(__file__).parents[4]
    owners = {}
    for unit in (root / "packaging").glob("*.service"):
        text = unit.read_text()
        user = re.search(r"^User=(.*)", text, re.MULTILINE)
        for folder in re.findall(r"^StateDirectory=(\S+)", text, re.MULTILINE):
            owners.setdefault(folder, set()).add(user[1] if user else "root")
    assert owners["kmend"] == {"root"}
    assert owners["kmend-watch"] == {"kmend"}
    page = (root / "docs/howto/update.md").read_text()
    assert set(re.findall(r'"/var/lib/([^/]+)/', page)) == {"kmend-watch"}


@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("kernels = [", "is not TOML")])
def test_a_file_that_cannot_be_read_is_named(watched, capsys, text, said):
    """No file, and no TOML."""
    path = watched.folder / "other.toml"
    if text:
        path.write_text(text)
    assert watched.run("update", "watch", "--config", path) == 1
    assert said in capsys.readouterr().err
