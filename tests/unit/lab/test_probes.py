"""Probes: where they come from, what they ask for, what their exit codes mean."""

from kmend.lab.probes import probe_result, read_probes, wanted_modules
from kmend.model.lab import ProbeResult


def test_wanted_modules():
    """Only a first comment line of that form asks for modules."""
    assert wanted_modules("// modules: tls nf_tables\nint main(void) { return 0; }") == ("tls", "nf_tables")
    assert wanted_modules("/* modules: tls */\n") == ("tls",)
    assert wanted_modules("// Tests modules: many\n") == ()
    assert wanted_modules("int main(void) { return 0; }\n// modules: tls\n") == ()
    assert wanted_modules("") == ()


def test_read_probes(tmp_path):
    """Every C file in probes/ is one, by name; a folder without any is fine."""
    assert read_probes(tmp_path) == {}
    (tmp_path / "probes").mkdir()
    (tmp_path / "probes/b.c").write_text("2")
    (tmp_path / "probes/a.c").write_text("1")
    (tmp_path / "probes/README").write_text("no")
    assert list(read_probes(tmp_path).items()) == [("a", "1"), ("b", "2")]


def test_probe_result():
    """0 fixed, 1 vulnerable; a crash, a time-out or a missing program could not tell."""
    assert probe_result(0) is ProbeResult.FIXED
    assert probe_result(1) is ProbeResult.VULNERABLE
    assert {probe_result(code) for code in (2, 77, 124, 127, 139)} == {ProbeResult.UNKNOWN}
