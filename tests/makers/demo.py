"""A made-up run of the demo: measurements as a container host could give them."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kmend.cli.demo.page import Story
from kmend.cli.demo.report import (
    AgentRun,
    HostRecord,
    Moment,
    Observation,
    Source,
    report_of,
)
from kmend.model.fix import Fix
from kmend.model.kernel import Kernel
from kmend.model.lab import ContainerRecord, LabReport, LabStep, ProbeRecord, ProbeResult, Profile
from kmend.model.livepatch import FixRecord, Livepatch, ReplacedFunction

LOADED = 1_760_000_030_000
KERNEL = Kernel(release="6.1.0-47-cloud-amd64", version="6.1.170-3", build_id="ab" * 20)
DIFF = """\
--- a/net/unix/af_unix.c
+++ b/net/unix/af_unix.c
@@ -3060,3 +3060,6 @@ static int unix_ioctl(struct socket *sock, unsigned int cmd, unsigned long arg)
 \t\t\tstruct sk_buff *skb;
 \t\t\tint answ = 0;
+\t\t\tif (sk->sk_type != SOCK_STREAM && cmd < 1)
+\t\t\t\treturn -EOPNOTSUPP;
+
 \t\t\tskb = skb_peek(&sk->sk_receive_queue);
"""
FIX = Fix(
    name="CVE-2026-52928",
    cves=("CVE-2026-52928",),
    title="af_unix: Reject SIOCATMARK on non-stream sockets",
    diff=DIFF,
    origin="Debian linux 6.1.170-3 to 6.1.192-2",
    reasoning="The mark is for stream sockets only.",
    probe="int main(void) { return 1; }",
)
LIVEPATCH = Livepatch(
    kernel=KERNEL,
    number=1,
    module="kmend_1",
    sha256="12" * 32,
    size=12345,
    fixes=(FixRecord(name=FIX.name, cves=FIX.cves, title=FIX.title, origin=FIX.origin, sha256="34" * 32),),
    functions=(ReplacedFunction(object="vmlinux", name="unix_ioctl", position=0, size=544, bytes_proven=544),),
    compiler="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0",
    builder="kmend 0.1.0",
)


def hearts(
    *, seconds: float = 60, names: tuple[str, ...] = ("web", "database", "queue")
) -> dict[str, tuple[int, ...]]:
    """Heartbeats about every 50 ms around LOADED, with now and then a stutter."""
    chance = random.Random(7)  # noqa: S311 - the same picture each time
    found = {}
    for name in names:
        at, beats = LOADED - seconds * 500, []
        while at < LOADED + seconds * 500:
            beats.append(int(at))
            at += 50 + chance.random() * 4 + (chance.random() < 0.01) * 150
        found[name] = tuple(beats)
    return found


def observation() -> Observation:
    """A transition of 1.4 s; the probe flips within it."""
    verdicts = tuple(
        (at, ProbeResult.VULNERABLE if at < LOADED + 900 else ProbeResult.FIXED)
        for at in range(LOADED - 30_000, LOADED + 30_000, 280)
    )
    return Observation(
        heartbeats=hearts(),
        verdicts=verdicts,
        loaded=LOADED,
        transition_begin=LOADED + 40,
        transition_end=LOADED + 1440,
    )


def container(name: str) -> ContainerRecord:
    """A container that nothing happened to."""
    return ContainerRecord(
        name=name,
        started_at="2026-11-24T03:12:44.031998123Z",
        started_at_after="2026-11-24T03:12:44.031998123Z",
        restarts=0,
        heartbeats=1180,
        longest_gap_ms=205.0,
        connection_kept=True,
    )


def host() -> HostRecord:
    """A host on which all went well."""
    boot_id = "0b6e1a9c-5f6f-4b0e-8a2d-2f1f2b1a9d11"
    return HostRecord(
        accelerator="tcg",
        build_id=KERNEL.build_id,
        boot_id_before=boot_id,
        boot_id_after=boot_id,
        probe_before=ProbeResult.VULNERABLE,
        probe_after=ProbeResult.FIXED,
        containers=tuple(container(name) for name in ("web", "database", "queue")),
        agent=(
            AgentRun(verb="init", exit_code=0, expected=0, said="enrolled, channel stable", seconds=3.1),
            AgentRun(verb="check", exit_code=10, expected=10, said="livepatch 1 is available", seconds=4.0),
            AgentRun(verb="update", exit_code=0, expected=0, said="livepatch 1 is loaded", seconds=16.2),
            AgentRun(verb="check", exit_code=0, expected=0, said="up to date", seconds=4.0),
            AgentRun(verb="status", exit_code=0, expected=0, said="livepatch 1 enabled", seconds=2.0),
        ),
        observation=observation(),
        kernel_log_findings=(),
    )


def lab() -> LabReport:
    """A lab report that passed."""
    vulnerable, fixed = ProbeResult.VULNERABLE, ProbeResult.FIXED
    names = ("boot", "prepare", "probe-before", "load", "transition", "probe-after", "soak", "unload", "reload")
    return LabReport(
        kernel=KERNEL,
        livepatch_number=1,
        livepatch_sha256=LIVEPATCH.sha256,
        profile=Profile.QUICK,
        accelerator="tcg",
        passed=True,
        failure="",
        probe_before=vulnerable,
        probe_after=fixed,
        probe_unloaded=vulnerable,
        probes=(ProbeRecord(name=FIX.name, before=vulnerable, after=fixed, unloaded=vulnerable),),
        transition_ms=1302.0,
        boot_id_before="x",
        boot_id_after="x",
        containers=(),
        steps=tuple(LabStep(name=name, passed=True, seconds=1.3, detail="") for name in names),
        kernel_log_findings=(),
        console_tail=(),
        started=datetime(2026, 11, 24, 3, 0, tzinfo=UTC),
        seconds=28.4,
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """The pieces of a run, to be changed one at a time."""

    livepatch: Livepatch = LIVEPATCH
    lab: LabReport
    host: HostRecord

    def story(self) -> Story:
        """The run as its report and page see it."""
        report = report_of(
            Source(fix=FIX.name, title=FIX.title, fixed_in="6.1.192-2"),
            self.livepatch,
            lab=self.lab,
            host=self.host,
            build_seconds=9.8,
            demo_seconds=221.4,
            timeline=(
                Moment(seconds=0.8, took=0.8, area="kernel", text="6.1.0-47-cloud-amd64 is the oldest"),
                Moment(seconds=62.0, took=9.8, area="build", text="kmend_1: 1 function replaced"),
            ),
        )
        return Story(report=report, seen=self.host.observation, fix=FIX, livepatch=self.livepatch, lab=self.lab)


def run(**changes: object) -> Run:
    """A run in which everything held, but for changes to the host's record."""
    return Run(lab=lab(), host=replace(host(), **changes))
