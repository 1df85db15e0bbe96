"""The file for Prometheus says what status says, and nothing that is not known."""

import re
from pathlib import Path

import pytest

from kmend.agent import sync, view
from kmend.agent.metrics import exposition, gauges
from kmend.agent.settings import Settings
from kmend.kit.errors import MachineError, TrustError
from makers.repository import flip_bit

NAME = "/var/lib/node_exporter/kmend.prom"
WITH_FILE = Settings(metrics_file=NAME)
LINE = re.compile(r'kmend_([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\]|\\["\\n])*",?)+\})? (-?[\d.e+]+)')


def values(machine):
    """Name with labels → value, from the file; every line is well-formed."""
    text = (machine.root / NAME.lstrip("/")).read_text()
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = LINE.fullmatch(line).groups()
            found[name + (labels or "")] = float(value)
    return found


def test_without_the_setting_nothing_is_written(machine):
    """The file is wished for by the settings only."""
    sync.update(machine.host())
    assert not (machine.root / NAME.lstrip("/")).exists()


def test_before_and_after_loading(machine):
    """Two CVEs are open and then closed; the times are those of the look."""
    host = machine.host(settings=WITH_FILE)
    sync.check(host)
    found = values(machine)
    assert (found["livepatch_number"], found["cves_closed"], found["cves_open"]) == (0, 0, 2)
    assert found['agent_phase{phase="idle"}'] == 1
    assert found["health"] == 1
    sync.update(host)
    found = values(machine)
    assert (found["livepatch_number"], found["cves_closed"], found["cves_open"]) == (1, 2, 0)
    assert (found['agent_phase{phase="applied"}'], found['agent_phase{phase="idle"}']) == (1, 0)
    last = view.status(host).last
    assert found["last_success_timestamp_seconds"] == pytest.approx(last.succeeded.timestamp(), abs=1)
    assert found["health"] == 0
    sync.unload_now(host, hold=True)
    found = values(machine)
    assert (found["livepatch_number"], found["quarantined"]) == (0, 1)
    assert found['quarantine{number="1",reason="unloaded by hand"}'] == 1


def test_while_it_is_watched(machine):
    """The phase is there as soon as the watch begins."""
    seen = []
    machine.clock.ticks.append(
        lambda: seen.append(values(machine)) if machine.clock.monotonic() > 30 and not seen else None
    )
    sync.update(machine.host(settings=WITH_FILE, soak=60))
    assert seen[0]['agent_phase{phase="soaking"}'] == 1


def test_failures(machine, made):
    """A failed look keeps the last success; trouble shows as a quarantine."""
    host = machine.host(settings=WITH_FILE)
    sync.check(host)
    before = values(machine)
    machine.clock.seconds += 100
    content = made.entry_path().read_bytes()
    flip_bit(made.entry_path())
    with pytest.raises(TrustError):
        sync.update(host)
    found = values(machine)
    assert found["last_success_timestamp_seconds"] == before["last_success_timestamp_seconds"]
    assert found["last_check_timestamp_seconds"] > before["last_check_timestamp_seconds"] + 90
    assert found["health"] == 2
    made.entry_path().write_bytes(content)
    machine.log_on_load = ['BUG: unable to handle "x\\y"']
    with pytest.raises(MachineError):
        sync.update(host)
    assert values(machine)["quarantined"] == 1


def test_what_is_not_known_is_left_out(machine):
    """No look yet, and a livepatch of unknown content: no value instead of a zero."""
    machine.foreign("kmend_7")
    text = exposition(view.status(machine.host()), now=machine.clock.now())
    assert "kmend_livepatch_number 7\n" in text
    for name in ("cves_closed", "cves_open", "last_check", "last_success"):
        assert name not in text


def test_a_folder_that_cannot_be_written(machine, caplog):
    """It is logged, and the livepatch is loaded all the same."""
    (machine.root / "var/lib").mkdir(exist_ok=True, parents=True)
    (machine.root / "var/lib/node_exporter").write_text("a file")
    assert sync.update(machine.host(settings=WITH_FILE)).applied
    assert "metrics_file" in caplog.text


def test_the_page_has_every_metric(machine):
    """One row each, with the meaning that the file gives."""
    page = (Path(__file__).parents[3] / "docs/reference/agent.md").read_text()
    rows = dict(re.findall(r"^\| `kmend_(\w+)(?:\{[^`]*\})?` \| (.*) \|$", page, re.MULTILINE))
    known = {one.name: one.meaning for one in gauges(view.status(machine.host()), now=machine.clock.now())}
    assert rows == known
