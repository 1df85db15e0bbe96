"""What exposures are computed from, made small: a kernel's list of files, versions of a record, a manifest."""

import json
from pathlib import Path

from kmend.exposure.records import Affected, CveRecord, Span
from kmend.model import wire
from kmend.model.exposure import Evidence, KernelFiles
from kmend.model.fix import CVE_ID
from kmend.model.kernel import Kernel
from kmend.model.livepatch import FixRecord, Livepatch
from makers.facts import BUILD_ID, RELEASE

KERNEL = Kernel(release=RELEASE, version="6.1.176-1", build_id=BUILD_ID)
FILES = KernelFiles(
    kernel=KERNEL,
    objects={
        "net/core/dev.c": ("vmlinux",),
        "net/tipc/socket.c": ("tipc",),
        "net/netfilter/nf_tables_api.c": ("nf_tables",),
        "io_uring/io_uring.c": ("vmlinux",),
        "drivers/gpu/drm/amd/a.c": ("amdgpu",),
        "fs/smb/client/inode.c": ("cifs",),
        "arch/x86/kernel/setup.c": ("vmlinux",),
    },
    sources={
        "net/core": ("dev.c", "other.c"),
        "net/tipc": ("socket.c", "core.h"),
        "net/netfilter": ("nf_tables_api.c",),
        "arch/arm64/kernel": ("setup.c",),
        "drivers/x": ("x.c", "x.h"),
        "arch/arm64/include/asm": ("a.h",),
        "include/net": ("tipc.h",),
        "fs/smb/client": ("inode.c",),
    },
)
# As the kernel's CNA writes it: came in with 5.3, repaired in 6.1.178, in 6.12.97 and in mainline.
USUAL = (
    Affected(
        otherwise=True,
        spans=(
            Span("5.3", "", "", True),
            Span("0", "5.3", "", False),
            Span("6.1.178", "", "6.1.*", False),
            Span("6.12.97", "", "6.12.*", False),
            Span("7.2", "", "*", False),
        ),
    ),
)
SEEN = Evidence(source="made", value="seen")


def cve(number: int = 1000, *files: str, vector: str = "", score: float = 7.8) -> CveRecord:
    """A record that is open in 6.1.176."""
    return CveRecord(
        cve=f"CVE-2026-{number}",
        title=f"fix number {number}",
        text="",
        files=files or ("net/tipc/socket.c",),
        severity="high",
        score=score,
        vector=vector,
        affected=USUAL,
    )


def cna_record(record: CveRecord) -> dict:
    """The record as the CNA publishes it."""
    kinds = {True: "affected", False: "unaffected"}
    versions = [
        {"version": span.start, "status": kinds[span.affected]}
        | ({"lessThan": span.below, "versionType": "semver"} if span.below else {})
        | ({"lessThanOrEqual": span.up_to, "versionType": "semver"} if span.up_to else {})
        for part in record.affected
        for span in part.spans
    ]
    cna = {
        "title": record.title,
        "descriptions": [{"lang": "en", "value": record.text}],
        "affected": [
            {"programFiles": list(record.files), "defaultStatus": "affected", "versions": versions},
            {
                "programFiles": list(record.files),
                "defaultStatus": "unaffected",
                "versions": [
                    {"version": "c0ffee", "lessThan": "beef", "status": "affected", "versionType": "git"}
                ],
            },
        ],
    }
    if record.vector:
        score = {"vectorString": record.vector, "baseSeverity": "HIGH", "baseScore": record.score}
        why = "AV:L - from a process.\nC:H - all of it."
        cna["metrics"] = [{"cvssV3_1": score, "scenarios": [{"lang": "en", "value": why}]}]
    return {
        "dataType": "CVE_RECORD",
        "dataVersion": "5.1.1",
        "cveMetadata": {"cveId": record.cve, "state": "PUBLISHED"},
        "containers": {"cna": cna},
    }


def write_cna(folder: Path, *records: CveRecord) -> Path:
    """A clone of the CNA's repository with these records."""
    for one in records:
        assert CVE_ID.fullmatch(one.cve)
        place = folder / "cve/published" / one.cve.split("-")[1] / f"{one.cve}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(cna_record(one)))
    return folder


def manifest(*cves: str, number: int = 3) -> Livepatch:
    """A livepatch's manifest that closes some CVEs."""
    return Livepatch(
        kernel=KERNEL,
        number=number,
        module=f"kmend_{number}",
        sha256="0" * 64,
        size=1,
        fixes=tuple(
            FixRecord(name=one, cves=(one,), title=one, origin="upstream", sha256="0" * 64) for one in cves
        ),
        functions=(),
        compiler="gcc-12",
        builder="kmend",
    )


def saved(folder: Path, name: str, noun: object) -> Path:
    """A noun as a file."""
    (folder / name).write_text(wire.dump(noun))
    return folder / name
