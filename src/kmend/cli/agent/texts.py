"""What the agent's verbs say to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kmend.agent import view
from kmend.agent.doctor import Diagnosis
from kmend.agent.health import Level
from kmend.agent.last import LastCheck
from kmend.model.look import Look

_NAMED = 10


def nagios_text(level: Level, reasons: Sequence[str], figures: str = "") -> str:
    """One line as a Nagios plugin prints it; the bar sets performance data apart, so it stands nowhere else."""
    text = "; ".join(reasons).replace("|", "/").replace("\n", " ")
    return f"KMEND {level.name} - {text}" + (f" | {figures}" if figures else "")


def figures(found: view.HostStatus) -> str:
    """The status as performance data."""
    ours = [one for one in found.running if one.ours and one.enabled]
    closed = sum(len(one.cves or ()) for one in ours)
    number = max((one.number or 0 for one in ours), default=0)
    return f"livepatch={number} cves_closed={closed} held_back={len(found.quarantined)}"


def patch_text(found: view.PatchInfo) -> str:
    """Each fix with its CVEs, then the functions."""
    livepatch = found.livepatch
    if livepatch is None:
        return f"{found.because}."
    since = f", published {_at(found.published)}" if found.published else ""
    lines = [
        f"livepatch  {livepatch.number} for {livepatch.kernel.release} ({livepatch.kernel.version}){since}",
        f"state      {found.because}",
        f"closes     {len(livepatch.cves)} CVEs by {len(livepatch.fixes)} fixes",
    ]
    lines += [f"  {', '.join(fix.cves) or 'no CVE'}: {fix.title}" for fix in livepatch.fixes]
    lines += [f"  replaces {function.object}:{function.name}" for function in livepatch.functions]
    return "\n".join(lines)


def diagnosis_text(found: Diagnosis) -> str:
    """A line for each look."""
    lines = [f"{one.outcome:<8} {one.what}: {one.detail}" for one in found.symptoms]
    return "\n".join([*lines, f"Archive for support, without secrets: {found.archive}"])


def status_text(found: view.HostStatus) -> str:
    """A line for each thing, the kernel's word first."""
    lines = [f"kernel     {found.kernel.release} (build id {found.kernel.build_id[:12]}…)"]
    for livepatch in found.running:
        state = "in transition" if livepatch.in_transition else "enabled" if livepatch.enabled else "disabled"
        cves = "" if livepatch.cves is None else f", closes {', '.join(livepatch.cves) or 'no CVE'}"
        owner = "" if livepatch.ours else ", not kmend's"
        lines.append(f"livepatch  {livepatch.name} ({state}{cves}{owner})")
    if not found.running:
        lines.append("livepatch  none")
    if found.traced and found.traced.count:
        lines.append(f"traced     {_traced_text(found.traced)}")
    lines.append(f"channel    {found.channel or 'not enrolled'}")
    lines.append(f"agent      {found.phase}{'' if found.agrees else ' - but the kernel says otherwise'}")
    if found.watch:
        blind = f"; not looked at: {', '.join(found.watch.unseen)}" if found.watch.unseen else ""
        lines.append(f"watch      {found.watch.seconds_left:.0f} s left{blind}")
    lines += [f"blocking   {task}" for task in found.blocking]
    if found.stalled:
        stall = found.stalled
        lines.append(
            f"stalled    livepatch {stall.number}, tried {stall.tries} times, again from {_at(stall.again)} on"
        )
        lines += [f"  by       {task}" for task in stall.tasks]
    if found.note:
        lines.append(f"note       {found.note}")
    lines += _known_lines(found)
    if found.switched_off:
        lines.append(f"{found.switched_off.switch:<10} {found.switched_off.because}")
    lines += [f"held back  livepatch {held.number}: {held.reason}" for held in found.quarantined]
    return "\n".join(lines)


def _known_lines(found: view.HostStatus) -> list[str]:
    """What was heard of the repository and the server, and what the host itself looked like."""
    lines = [f"last look  {_last_text(found.last)}"] if found.last else []
    if found.server:
        lines += _server_lines(found.server)
    if found.look:
        lines.append(f"host look  {_look_line(found.look)}")
        lines += [f"  failed   {error}" for error in found.look.errors]
    return lines


def look_text(found: Look) -> str:
    """The figures, the worst that failed, and which CVEs containers reach."""
    lines = [_look_line(view.look_status(found))]
    for one in (found.audit.failed if found.audit else ())[:_NAMED]:
        subjects = "" if one.count == 1 else f" and {one.count - 1} more"
        lines.append(f"  {one.severity:<9} {one.check}: {', '.join(one.subjects[:1])}{subjects}")
    for group in (found.exposure.groups if found.exposure else ())[:_NAMED]:
        cves = f"{group.cves[0].cve} and {len(group.cves) - 1} more" if len(group.cves) > 1 else group.cves[0].cve
        names = ", ".join(group.containers[:3]) + (", …" if group.count > 3 else "")  # noqa: PLR2004 - names
        lines.append(f"  {group.reach:<14} {cves}: {names}")
    lines += [f"  note: {one}" for one in (found.exposure.missing if found.exposure else ())]
    lines += [f"  closed: {cve}, so its mitigation was taken out" for cve in found.lifted]
    return "\n".join([*lines, *(f"  failed: {error}" for error in found.errors)])


def _look_line(found: view.LookStatus) -> str:
    score = "not audited" if found.score is None else f"audit {found.score}%, {found.failed} checks failed"
    cves = "" if found.open is None else f"; {found.open} open CVEs, containers reach {found.reachable}"
    return f"{_at(found.at)}, {score}{cves}"


def _traced_text(found: view.Traced) -> str:
    more = ", …" if found.count > len(found.first) else ""
    diverted = f"; cannot be livepatched meanwhile: {', '.join(found.diverted)}" if found.diverted else ""
    return f"{found.count} by others than livepatches: {', '.join(found.first)}{more}{diverted}"


def _last_text(last: LastCheck) -> str:
    if last.error:
        return f"{_at(last.at)}, failed: {last.error}"
    return f"{_at(last.at)}, {last.verdict}: {last.because}"


def _server_lines(found: view.ServerStatus) -> list[str]:
    lines = [f"server     {found.address} ({found.host or 'not known as what'})"]
    heard = f"last heard {_at(found.succeeded)}" if found.succeeded else "never heard"
    unsent = f", {found.unsent} reports to send" if found.unsent else ""
    lines.append(f"check-in   {f'failed: {found.error}; {heard}' if found.error else heard}{unsent}")
    if offer := found.offer:
        number = "" if offer.number is None else f" {offer.number}"
        lines.append(f"offer      {offer.action}{number}: {offer.because}")
    return lines


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def info_text(found: view.HostInfo) -> str:
    """Where livepatches come from, what was seen there, and what is loaded."""
    lines = [
        f"repository {found.repository}",
        f"channel    {found.channel}",
        f"root       version {found.pinned_root.version} pinned, sha256 {found.config.root_sha256}",
    ]
    lines += [
        f"seen       {role.role} version {role.version}, expires {role.expires:%Y-%m-%d %H:%M} UTC"
        for role in found.seen
    ]
    lines += [f"setting    {name} = {value}" for name, value in found.settings.items()]
    if found.livepatch:
        lines.append(f"livepatch  {found.livepatch.number}, built by {found.livepatch.builder}")
        lines += [f"  closes   {', '.join(fix.cves) or '-'}: {fix.title}" for fix in found.livepatch.fixes]
        lines += [f"  replaces {function.object}:{function.name}" for function in found.livepatch.functions]
    return "\n".join(lines)
