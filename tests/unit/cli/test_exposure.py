"""``kmend exposure`` and ``kmend mitigate`` as they are typed."""

import json
from dataclasses import replace

import pytest

from kmend.cli.main import kmend, run_command
from kmend.model import wire
from kmend.model.exposure import Exposure
from makers.cve_records import make_units
from makers.exposures import FILES, cve, manifest, saved, write_cna
from makers.facts import container, facts, of_host

LOCAL = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"
ODD = "evil\x1b[2J\x1b]0;x\x07<b>"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Facts, records and a kernel's files, saved; the options that name them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    records = write_cna(
        tmp_path / "vulns",
        cve(1000, vector=LOCAL),
        cve(1001, "net/core/dev.c"),
        cve(1002, "drivers/x/x.c"),
        cve(1003, "net/netfilter/nf_tables_api.c"),
        replace(cve(1004), title=ODD),
    )
    host = saved(tmp_path, "facts.json", facts(container(ODD), of_host("shop", kinds=("net",))))
    kernel = saved(tmp_path, "kernel.json", FILES)
    return ["--facts", str(host), "--records", str(records), "--kernel-files", str(kernel)]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs kmend and returns its exit code and both outputs."""

    def typed(*words):
        monkeypatch.setattr("sys.argv", ["kmend", *words])
        code = run_command(kmend)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return typed


def test_first_what_to_do_then_the_table(given, run):
    """The order in which a person reads, and no escape sequence on the way."""
    code, out, err = run("exposure", *given)
    assert code == 0
    assert out.index("Block module tipc") < out.index("open") < out.index("CVE-2026-1000")
    assert "all 2 containers" in out
    assert "CVE-2026-1002" not in out
    assert "1  not built in this kernel" in out
    assert "\x1b" not in out + err
    assert "\\x1b[2J" in out


def test_one_cve_with_its_evidence(given, run):
    """Every link of the chain can be looked at."""
    code, out, _ = run("exposure", *given, "--cve", "CVE-2026-1000", "--container", "shop")
    assert code == 0
    for part in (
        "repaired only in 6.1.178; this is 6.1.176",
        "net/tipc/socket.c in tipc",
        "AV:L - from a process.",
    ):
        assert part in out
    assert "shop: reachable by socket AF_TIPC" in out
    assert "modules.alias: net-pf-30 loads tipc" in out
    assert "C:H" not in out.partition("AV:L - ")[2]


@pytest.mark.parametrize("form", ["json", "openvex", "cyclonedx", "sarif"])
def test_documents(given, run, tmp_path, form):
    """On standard output and as a file, the same but for the moment."""
    code, out, _ = run("exposure", *given, f"--{form}")
    assert code == 0
    shown = json.loads(out)
    assert "\x1b" not in out
    assert run("exposure", *given, f"--{form}", "-o", str(tmp_path / "out.json"))[0] == 0
    assert set(json.loads((tmp_path / "out.json").read_text())) == set(shown)
    if form == "json":
        assert len(wire.load(Exposure, out, what="it").cves) == 5


def test_livepatch_and_known_exploits(given, run, tmp_path):
    """A manifest says what could be applied; the list of exploited holes ranks."""
    kev = tmp_path / "kev.json"
    rows = [{"cveID": "CVE-2026-1003", "dateAdded": "2026-02-03"}]
    kev.write_text(json.dumps({"vulnerabilities": rows}))
    patch = saved(tmp_path, "livepatch.json", manifest("CVE-2026-1001"))
    code, out, _ = run("exposure", *given, "--kev", str(kev), "--manifest", str(patch))
    assert code == 0
    assert "Apply livepatch 3: it closes CVE-2026-1001" in out
    assert "exploited since 2026-02-03" in out
    assert out.index("CVE-2026-1003") < out.index("CVE-2026-1000  ")


def test_the_changelog_closes(given, run, tmp_path):
    """What the package's changelog names is closed by version; one of another kernel is refused."""
    log = tmp_path / "changelog"
    log.write_text("linux (6.1.176-1) bookworm; urgency=medium\n\n  * fix it (CVE-2026-1000)\n\n -- A <a@b>\n")
    code, out, _ = run("exposure", *given, "--changelog", str(log), "--cve", "CVE-2026-1000")
    assert code == 0
    assert "changelog: closed in 6.1.176-1" in out
    log.write_text("linux (6.1.190-1) bookworm; urgency=medium\n\n  * fix it (CVE-2026-1000)\n\n -- A <a@b>\n")
    code, _, err = run("exposure", *given, "--changelog", str(log))
    assert code == 1
    assert "does not know version 6.1.176-1" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cve", "nonsense"], "not the id of a CVE"),
        (["--cve", "CVE-2026-9999"], "no record of CVE-2026-9999"),
        (["--container", "nobody"], "no container nobody"),
        (["-o", "x.json"], "-o writes a document"),
    ],
)
def test_wrong_words(given, run, words, message):
    """Each ends with what is wrong."""
    code, _, err = run("exposure", *given, *words)
    assert code == 1
    assert message in err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kernel": 7}', "\x1b[2J"])
@pytest.mark.parametrize("option", ["--facts", "--kernel-files", "--manifest", "--kev"])
def test_damaged_files_are_refused(given, run, tmp_path, option, content):
    """One message, no traceback, no escape sequence."""
    (tmp_path / "damaged").write_text(content)
    code, out, err = run("exposure", *given, option, str(tmp_path / "damaged"))
    assert code == 1
    assert "error: " in err
    assert "\x1b" not in out + err


def test_a_broken_record_is_a_note(given, run, tmp_path):
    """The others are judged."""
    (tmp_path / "vulns/cve/published/2026/CVE-2026-1001.json").write_text('{"dataType": "\x1b[2J"}')
    code, out, err = run("exposure", *given)
    assert code == 0
    assert "1 records could not be read, first CVE-2026-1001" in out
    assert "\x1b" not in out + err


def test_records_are_needed(given, run):
    """The hint says which."""
    code, _, err = run("exposure", *given[:2])
    assert code == 1
    assert "--records" in err


@pytest.fixture
def host(given, tmp_path, monkeypatch):
    """The options for a host below a folder, whose facts are made."""
    made = facts(container())
    monkeypatch.setattr("kmend.cli.exposure.gather.facts_of", lambda *_: made)
    (tmp_path / "root").mkdir()
    return ["--root", str(tmp_path / "root"), *given[2:]]


def test_a_mitigation_comes_and_goes(host, run, tmp_path):
    """Looked at, written, listed, taken out."""
    file = tmp_path / "root/etc/modprobe.d/kmend-CVE-2026-1000.conf"
    code, out, _ = run("mitigate", "CVE-2026-1000", *host, "--dry-run")
    assert (code, file.exists()) == (0, False)
    assert "would be written" in out
    code, out, _ = run("mitigate", "CVE-2026-1000", *host)
    assert code == 0
    assert "blocks tipc" in out
    assert "install tipc /bin/false" in file.read_text()
    code, out, _ = run("mitigate", "--list", *host[:2], "--json")
    assert [one["cve"] for one in json.loads(out)["mitigations"]] == ["CVE-2026-1000"]
    assert run("mitigate", "CVE-2026-1000", "--remove", *host[:2])[0] == 0
    assert not file.exists()
    code, _, err = run("mitigate", "CVE-2026-1000", "--remove", *host[:2])
    assert (code, "no mitigation of CVE-2026-1000" in err) == (1, True)


def test_it_goes_by_itself_when_the_cve_is_closed(host, run, tmp_path):
    """Not before, and not while nobody can tell."""
    file = tmp_path / "root/etc/modprobe.d/kmend-CVE-2026-1000.conf"
    assert run("mitigate", "CVE-2026-1000", *host)[0] == 0
    code, out, _ = run("mitigate", "--refresh", *host)
    assert (code, "No mitigation is of a CVE that is closed" in out, file.exists()) == (0, True, True)
    record = tmp_path / "vulns/cve/published/2026/CVE-2026-1000.json"
    text = record.read_text()
    record.unlink()
    assert run("mitigate", "--refresh", *host)[0] == 0
    assert file.exists()
    record.write_text(text.replace("6.1.178", "6.1.176"))
    code, out, _ = run("mitigate", "--refresh", *host)
    assert (code, "is taken out" in out, file.exists()) == (0, True, False)


def test_what_breaks_has_to_be_agreed_to(host, run, tmp_path):
    """Nothing is written before."""
    (tmp_path / "vulns/cve/published/2026/CVE-2026-1005.json").unlink(missing_ok=True)
    write_cna(tmp_path / "vulns", cve(1005, "io_uring/io_uring.c"))
    file = tmp_path / "root/etc/sysctl.d/99-kmend-CVE-2026-1005.conf"
    code, _, err = run("mitigate", "CVE-2026-1005", *host)
    assert (code, file.exists()) == (1, False)
    assert "uses io_uring" in err
    assert "--yes-breaks" in err
    assert run("mitigate", "CVE-2026-1005", *host, "--yes-breaks")[0] == 0
    assert "kernel.io_uring_disabled = 2" in file.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Which CVE?"),
        (["CVE-2026-1001"], "built into the kernel"),
        (["CVE-2026-1003"], "nf_tables: it is loaded"),
        (["CVE-2026-1002"], "not open here: not built"),
        (["CVE-2026-1000", "--list"], "about all CVEs"),
        (["--list", "--refresh"], "Give one of"),
        (["--remove"], "Which CVE?"),
    ],
)
def test_what_mitigate_refuses(host, run, tmp_path, words, message):
    """With the reason, and nothing written."""
    code, _, err = run("mitigate", *words, *host)
    assert code == 1
    assert message in err
    assert not [*(tmp_path / "root").rglob("*.conf")]


def test_saved_facts_change_nothing(given, run, tmp_path):
    """They may be of another host."""
    code, _, err = run("mitigate", "CVE-2026-1000", *given)
    assert (code, "--dry-run" in err) == (1, True)
    assert run("mitigate", "CVE-2026-1000", *given, "--dry-run")[0] == 0


def test_kernel_files(run, tmp_path, monkeypatch):
    """`kmend kernel files` writes what `--kernel-files` reads."""
    source = tmp_path / "source"
    (source / "net").mkdir(parents=True)
    (source / "net/a.c").write_text("")
    kit = type("Kit", (), {"source": source, "kernel": FILES.kernel})
    monkeypatch.setattr("kmend.cli.kernel.store.load", lambda _: kit)
    monkeypatch.setattr("kmend.cli.kernel.units", lambda *_, **__: make_units({"net/a.c": "a"}))
    code, out, _ = run("kernel", "files", FILES.kernel.release, "-o", str(tmp_path / "files.json"))
    assert (code, "1 source files" in out) == (0, True)
    assert json.loads((tmp_path / "files.json").read_text())["objects"] == {"net/a.c": ["a"]}
