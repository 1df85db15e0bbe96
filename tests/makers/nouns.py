"""Small nouns for tests: a kernel, a livepatch, its lab report, and the folder that holds them."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from kmend.model import wire
from kmend.model.kernel import Kernel
from kmend.model.lab import LabReport, LabStep, ProbeResult, Profile
from kmend.model.livepatch import FixRecord, Livepatch, ReplacedFunction

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
KERNEL = Kernel(release="6.1.0-47-cloud-amd64", version="6.1.170-3", build_id="ab" * 20)
OTHER_KERNEL = Kernel(release="6.1.0-56-cloud-amd64", version="6.1.192-2", build_id="cd" * 20)


def module_bytes(number: int = 1) -> bytes:
    """Bytes that stand for an unsigned module; nothing here loads it."""
    return b"\x7fELF" + bytes(range(256)) * 8 + f"livepatch {number}".encode()


def make_livepatch(number: int = 1, *, kernel: Kernel = KERNEL, module: bytes | None = None) -> Livepatch:
    """A manifest that fits ``module`` (default: ``module_bytes(number)``)."""
    content = module_bytes(number) if module is None else module
    return Livepatch(
        kernel=kernel,
        number=number,
        module=f"kmend_{number}",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        fixes=(
            FixRecord(
                name="unix-siocatmark",
                cves=("CVE-2026-52928", "CVE-2026-72379"),
                title="af_unix: reject SIOCATMARK on sockets that are not streams",
                origin="6.1.192-2",
                sha256="0" * 64,
            ),
        ),
        functions=(ReplacedFunction(object="vmlinux", name="unix_ioctl", position=0, size=300, bytes_proven=300),),
        compiler="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0",
        builder="kmend 0.1.0",
    )


def make_report(
    livepatch: Livepatch, *, passed: bool = True, sha256: str = "", steps: tuple[LabStep, ...] = ()
) -> LabReport:
    """A lab report about a livepatch."""
    return LabReport(
        kernel=livepatch.kernel,
        livepatch_number=livepatch.number,
        livepatch_sha256=sha256 or livepatch.sha256,
        profile=Profile.QUICK,
        accelerator="tcg",
        passed=passed,
        failure="" if passed else "load: kernel panic",
        probe_before=ProbeResult.VULNERABLE,
        probe_after=ProbeResult.FIXED,
        probe_unloaded=ProbeResult.VULNERABLE,
        probes=(),
        transition_ms=1400.0,
        boot_id_before="b" * 36,
        boot_id_after="b" * 36,
        containers=(),
        steps=steps,
        kernel_log_findings=(),
        console_tail=(),
        started=NOW,
        seconds=12.5,
    )


def make_built(
    folder: Path, number: int = 1, *, kernel: Kernel = KERNEL, passed: bool = True, module: bytes | None = None
) -> Livepatch:
    """A folder as `kmend build` and `kmend lab run` leave it."""
    content = module_bytes(number) if module is None else module
    livepatch = make_livepatch(number, kernel=kernel, module=content)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "livepatch.ko").write_bytes(content)
    (folder / "livepatch.json").write_text(wire.dump(livepatch))
    (folder / "labreport.json").write_text(wire.dump(make_report(livepatch, passed=passed)))
    return livepatch
