"""The agent on a fake machine, fed by a real signed repository."""

import errno
import shutil
from dataclasses import replace

import pytest

from kmend.agent import config, sync, view
from kmend.agent.apply import apply
from kmend.agent.config import Switch
from kmend.agent.decide import Verdict
from kmend.agent.state import load_state, save_state
from kmend.kit.errors import BusyError, InputError, KmendError, MachineError, TrustError
from kmend.kit.files import lock
from kmend.model.host import AgentPhase
from kmend.trust.refusal import Refusal
from makers.machine import FakeMachine
from makers.nouns import KERNEL, OTHER_KERNEL, make_livepatch
from makers.repository import SimulatedRepository, flip_bit, flip_signature_bit


def remembered(machine, boot=1):
    """The agent's state."""
    boot_id = f"{boot:08d}-0000-0000-0000-000000000000"
    return load_state(machine.host().paths, boot_id=boot_id, now=machine.clock.now())


def test_a_livepatch_is_found_loaded_and_then_up_to_date(machine, made):
    """The main job: check says available, update loads the signed bytes, check says up to date."""
    host = machine.host()
    assert sync.check(host).verdict == Verdict.AVAILABLE
    assert machine.loaded == []
    done = sync.update(host)
    assert done.applied
    assert done.transition_ms == pytest.approx(100, abs=60)
    assert machine.loaded == [("kmend_1", made.module_path().read_bytes())]
    assert machine.livepatches() == ["kmend_1"]
    assert remembered(machine).phase == AgentPhase.APPLIED
    assert sync.check(host).verdict == Verdict.UP_TO_DATE
    assert not sync.update(host).applied
    assert len(machine.loaded) == 1


def test_a_newer_livepatch_replaces_the_older(machine, made):
    """After an atomic replace the older module is removed."""
    sync.update(machine.host())
    made.publish(2)
    done = sync.update(machine.host())
    assert done.replaced == ("kmend_1",)
    assert machine.livepatches() == ["kmend_2"]
    assert machine.modules() == ["kmend_2"]


def test_uname_and_status_say_what_the_kernel_says(machine):
    """The effective version names the livepatch and counts its CVEs; status reads sysfs."""
    host = machine.host()
    assert view.effective_version(view.status(host)) == KERNEL.release
    sync.update(host)
    found = view.status(host)
    assert view.effective_version(found) == f"{KERNEL.release} livepatch 1 (closes 2 CVEs)"
    assert found.agrees
    shutil.rmtree(machine.root / "sys/kernel/livepatch/kmend_1")
    found = view.status(host)
    assert found.running == ()
    assert not found.agrees
    assert view.effective_version(found) == KERNEL.release


def test_a_livepatch_of_unknown_origin_is_shown_as_unknown(machine):
    """What the agent did not load itself has no CVE count, rather than a guessed one."""
    machine.foreign("kmend_7")
    text = view.effective_version(view.status(machine.host()))
    assert text == f"{KERNEL.release} livepatch 7 (not loaded by this agent)"


def test_info_tells_the_enrolment_and_what_was_seen(machine):
    """Info names repository, channel, pinned root and the versions seen last."""
    sync.update(machine.host())
    found = view.info(machine.host())
    assert found.config.channel == "edge"
    assert {role.role for role in found.seen} >= {"timestamp", "snapshot", "targets", "edge"}
    assert found.livepatch.number == 1


TAMPERINGS = {
    "one bit of the module": (lambda made: flip_bit(made.module_path()), Refusal.ALTERED),
    "one bit of the entry": (lambda made: flip_bit(made.entry_path()), Refusal.ALTERED),
    "a stranger's key": (lambda made: made.resign("timestamp", key="stranger"), Refusal.WRONG_KEY),
    "one bit of a signature": (lambda made: flip_signature_bit(made.path("timestamp")), Refusal.WRONG_KEY),
    "expired": (
        lambda made: made.resign(
            "timestamp", change=lambda s: setattr(s, "expires", s.expires.replace(year=2020))
        ),
        Refusal.EXPIRED,
    ),
    "endless": (lambda made: made.module_path().write_bytes(bytes(1 << 20)), Refusal.TOO_LONG),
    "cut": (lambda made: made.module_path().write_bytes(b"short"), Refusal.CUT),
    "gone": (lambda made: shutil.rmtree(made.repo), Refusal.UNREACHABLE),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampered_repository_changes_nothing(machine, made, name):
    """Kernel, state and enrolment are the same before and after; the reason is named."""
    tamper, reason = TAMPERINGS[name]
    tamper(made)
    before = machine.files()
    with pytest.raises(TrustError) as caught:
        sync.update(machine.host())
    assert caught.value.reason == reason
    assert machine.loaded == []
    assert machine.files() == before


def test_rolled_back_repository_keeps_what_is_loaded(machine, made):
    """A stale mirror neither loads the old livepatch nor takes the new one out."""
    old = made.copy("old")
    made.publish(2)
    sync.update(machine.host())
    shutil.rmtree(made.repo)
    shutil.copytree(old, made.repo)
    before = machine.files()
    with pytest.raises(TrustError) as caught:
        sync.update(machine.host())
    assert caught.value.reason == Refusal.ROLLED_BACK
    assert machine.livepatches() == ["kmend_2"]
    assert machine.files() == before


def test_the_channel_has_nothing_for_another_kernel(tmp_path, made):
    """A host with another kernel is offered nothing."""
    fake = FakeMachine(tmp_path / "other", kernel=OTHER_KERNEL)
    fake.enrol(made)
    decision = sync.check(fake.host())
    assert decision.verdict == Verdict.NOTHING_OFFERED
    assert not sync.update(fake.host()).applied


def test_apply_checks_the_kernel_once_more(tmp_path, machine, made):
    """Even a verified livepatch is not loaded into a kernel with another build id."""
    verified = fetched(machine, made)
    other = FakeMachine(tmp_path / "other", kernel=OTHER_KERNEL)
    with pytest.raises(TrustError, match="build id") as caught:
        apply(verified, other.host(), remembered(other))
    assert caught.value.reason == Refusal.OTHER_KERNEL
    assert other.loaded == []


def fetched(machine, made):
    """A verified livepatch."""
    from kmend.trust.repository import fetch  # noqa: PLC0415

    return fetch(
        str(made.repo), channel="edge", kernel=KERNEL, pinned_root=made.root, cache=machine.root / "elsewhere"
    )


def test_full_disk_before_loading(machine, monkeypatch):
    """When the mark before loading cannot be written, nothing is loaded."""

    def full(path, *args, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("kmend.agent.state.write_atomic", full)
    before = machine.files()
    with pytest.raises(MachineError, match="disk is full"):
        sync.update(machine.host())
    assert machine.loaded == []
    assert machine.files() == before


def test_another_run_is_under_way(machine):
    """Two runs never meet."""
    host = machine.host()
    with lock(host.paths.lock, what="kmend agent"), pytest.raises(BusyError, match="under way"):
        sync.update(host)
    with lock(host.paths.lock, what="kmend agent"), pytest.raises(BusyError):
        sync.check(host)
    assert machine.loaded == []


@pytest.mark.parametrize("code", [errno.ENOEXEC, errno.EKEYREJECTED, errno.EINVAL, errno.EPERM])
def test_the_kernel_refuses_the_module(machine, code):
    """The message has the kernel's reason and its own words; the state is as before but for the note."""
    machine.refuse = code
    with pytest.raises(MachineError) as caught:
        sync.update(machine.host())
    assert errno.errorcode[code] in caught.value.message
    assert "kernel: module kmend_1 is refused" in caught.value.message
    state = remembered(machine)
    assert state.phase == AgentPhase.IDLE
    assert state.livepatch is None
    assert state.quarantined == ()


def test_a_transition_that_does_not_end_is_reverted(machine):
    """After the timeout the livepatch is disabled and removed; it may be tried again."""
    machine.transition_ticks = None
    with pytest.raises(MachineError, match="transition did not end within 5 s"):
        sync.update(machine.host(transition_timeout=5))
    assert machine.livepatches() == []
    assert machine.modules() == []
    assert remembered(machine).phase == AgentPhase.IDLE
    machine.transition_ticks = 2
    assert sync.update(machine.host()).applied


def test_a_stall_names_who_is_in_the_way(machine):
    """Message and status have the task with its stack; by itself the agent tries again later, and later still."""
    machine.task(77, name="dd", stack="[<0>] unix_ioctl+0x1/0x2\n[<0>] do_syscall_64+0x1/0x2\n")
    machine.transition_ticks = None
    with pytest.raises(MachineError, match=r"waiting for dd \(77\) in unix_ioctl, do_syscall_64"):
        sync.update(machine.host(transition_timeout=5))
    stalled = view.status(machine.host()).stalled
    assert (stalled.number, stalled.tries, stalled.tasks[0].stack[0]) == (1, 1, "unix_ioctl")
    patient = machine.host(transition_timeout=5, patient=True)
    decision = sync.update(patient).decision
    assert decision.verdict == Verdict.STALLED
    assert "tried again from" in decision.because
    machine.clock.seconds += 15 * 60
    with pytest.raises(MachineError, match="did not end"):
        sync.update(patient)
    machine.clock.seconds += 15 * 60
    assert sync.check(patient).verdict == Verdict.STALLED
    assert sync.check(machine.host()).verdict == Verdict.AVAILABLE
    machine.clock.seconds += 15 * 60
    machine.transition_ticks = 2
    assert sync.update(patient).applied
    assert view.status(machine.host()).stalled is None


def test_status_names_who_is_in_the_way_now(machine):
    """While a transition is under way."""
    machine.task(77)
    machine.task(78, state="1")
    machine.foreign("kpatch_1")
    assert view.status(machine.host()).blocking == ()
    (machine.root / "sys/kernel/livepatch/kpatch_1/transition").write_text("1\n")
    assert [task.pid for task in view.status(machine.host()).blocking] == [77]


def test_an_unload_that_stalls(machine):
    """Nothing is forced; the message names the task that has not left."""
    sync.update(machine.host())
    machine.task(78, name="cat", state="1")
    machine.clock.ticks.clear()
    (machine.root / "sys/kernel/livepatch/kmend_1/transition").write_text("1\n")
    with pytest.raises(MachineError, match=r"not out after 5 s: waiting for cat \(78\)") as caught:
        sync.unload_now(machine.host(transition_timeout=5), hold=False)
    assert "Nothing is forced" in caught.value.hint


def test_a_failed_replacement_leaves_the_older_one(machine, made):
    """When the newer one is reverted the older one is still in effect, and remembered."""
    sync.update(machine.host())
    made.publish(2)
    machine.transition_ticks = None
    with pytest.raises(MachineError):
        sync.update(machine.host(transition_timeout=5))
    assert machine.livepatches() == ["kmend_1"]
    state = remembered(machine)
    assert (state.phase, state.livepatch.number) == (AgentPhase.APPLIED, 1)
    assert "transition" in state.note


def test_a_kernel_that_complains_gets_the_livepatch_out(machine):
    """An oops while watching takes the livepatch out, and quarantines it."""
    machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    with pytest.raises(MachineError, match="complained"):
        sync.update(machine.host())
    assert machine.livepatches() == []
    machine.log_on_load = []
    decision = sync.check(machine.host())
    assert decision.verdict == Verdict.HELD_BACK
    assert not sync.update(machine.host()).applied
    assert sync.update(machine.host(), despite_quarantine=True).applied


def test_a_revert_leaves_nothing_behind(machine, made):
    """The module that was replaced goes too, so that it can be loaded again."""
    sync.update(machine.host())
    made.publish(2)
    machine.log_on_load = ["BUG: unable to handle page fault for address: ffff"]
    with pytest.raises(MachineError, match="complained"):
        sync.update(machine.host())
    assert machine.modules() == []
    assert (remembered(machine).phase, remembered(machine).livepatch) == (AgentPhase.IDLE, None)


def test_an_idle_module_of_ours_is_not_in_the_way(machine):
    """What a killed revert has left behind is taken out before the same is loaded again."""
    (machine.root / "sys/module/kmend_1").mkdir()
    (machine.root / "sys/module/kmend_1/initstate").write_text("live\n")
    assert sync.update(machine.host()).applied


def test_an_old_complaint_does_not_count(machine):
    """What the kernel said before the livepatch was loaded is not its fault."""
    machine.log("WARNING: CPU: 0 PID: 1 at drivers/old.c:1")
    assert sync.update(machine.host()).applied


@pytest.mark.parametrize("phase", [AgentPhase.LOADING, AgentPhase.SOAKING, AgentPhase.REVERTING])
def test_a_reboot_in_between_quarantines(machine, made, phase):
    """A host that went down while loading or watching does not load that number again; a newer one it does."""
    state = replace(remembered(machine), phase=phase, livepatch=make_livepatch(1))
    save_state(machine.host().paths, state)
    machine.boot(2)
    decision = sync.check(machine.host())
    assert decision.verdict == Verdict.HELD_BACK
    assert "went down unexpectedly while livepatch 1" in decision.because
    assert "went down unexpectedly" in view.status(machine.host()).note
    assert not sync.update(machine.host()).applied
    made.publish(2)
    assert sync.update(machine.host()).applied


def test_a_reboot_later_is_nothing_special(machine):
    """After the watch was over a reboot only means loading it again."""
    sync.update(machine.host())
    machine.boot(2)
    assert sync.update(machine.host()).applied


@pytest.mark.parametrize("phase", [AgentPhase.LOADING, AgentPhase.SOAKING])
def test_a_killed_run_is_finished(machine, phase):
    """A run that was killed after loading is taken over by the next one in the same boot."""
    sync.update(machine.host())
    save_state(machine.host().paths, replace(remembered(machine), phase=phase))
    assert not sync.update(machine.host()).applied
    assert remembered(machine).phase == AgentPhase.APPLIED
    assert machine.livepatches() == ["kmend_1"]


def test_a_run_killed_before_loading_is_started_over(machine):
    """The mark alone, without a module in the kernel, does not quarantine in the same boot."""
    save_state(
        machine.host().paths,
        replace(remembered(machine), phase=AgentPhase.LOADING, livepatch=make_livepatch(1)),
    )
    assert sync.update(machine.host()).applied


def test_a_run_killed_while_reverting_is_finished(machine, made):
    """A half-done revert is completed before anything else."""
    sync.update(machine.host())
    save_state(machine.host().paths, replace(remembered(machine), phase=AgentPhase.REVERTING))
    shutil.rmtree(made.repo)
    with pytest.raises(TrustError):
        sync.update(machine.host())
    assert machine.livepatches() == []
    assert machine.modules() == []


def test_unload_takes_it_out_and_holds_it_back(machine):
    """After unload the kernel is as it was, and the next update leaves it so."""
    sync.update(machine.host())
    assert sync.unload_now(machine.host(), hold=True) == ("kmend_1",)
    assert machine.livepatches() == []
    assert machine.modules() == []
    assert sync.check(machine.host()).verdict == Verdict.HELD_BACK
    assert sync.unload_now(machine.host(), hold=True) == ()


def test_unload_of_what_somebody_loaded_by_hand(machine):
    """A livepatch of kmend that the agent does not remember is taken out and held back all the same."""
    machine.load("kmend_1", b"")
    assert sync.unload_now(machine.host(), hold=True) == ("kmend_1",)
    assert sync.check(machine.host()).verdict == Verdict.HELD_BACK


def test_a_state_that_cannot_be_read(machine):
    """A damaged state stops the agent instead of forgetting the quarantines."""
    sync.update(machine.host())
    sync.unload_now(machine.host(), hold=False)
    machine.loaded.clear()
    machine.host().paths.state.write_text("{half")
    with pytest.raises(InputError, match=r"state\.json") as caught:
        sync.update(machine.host())
    assert "quarantines" in caught.value.hint
    assert machine.loaded == []


def test_unload_without_holding(machine):
    """With no hold the next update loads it again."""
    sync.update(machine.host())
    sync.unload_now(machine.host(), hold=False)
    assert sync.update(machine.host()).applied


def test_others_livepatches_are_left_alone(machine):
    """A livepatch that replaces all would take out somebody else's: it is not loaded."""
    machine.foreign("kpatch_5_10")
    assert sync.check(machine.host()).verdict == Verdict.BLOCKED
    with pytest.raises(MachineError, match="kpatch_5_10"):
        sync.update(machine.host())
    sync.unload_now(machine.host(), hold=True)
    assert machine.livepatches() == ["kpatch_5_10"]


SWITCHES = {
    "file": (lambda root: (root / "etc/kmend/disabled").touch(), Switch.OFF),
    "off": (lambda root: (root / "proc/cmdline").write_text("ro kmend=off quiet\n"), Switch.OFF),
    "no-apply": (lambda root: (root / "proc/cmdline").write_text("ro kmend=no-apply\n"), Switch.NO_APPLY),
    "both": (lambda root: (root / "proc/cmdline").write_text("kmend=no-apply kmend=off\n"), Switch.OFF),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_kill_switches(machine, made, name):
    """A file or a word on the kernel command line keeps everything out, and status says which."""
    turn, switch = SWITCHES[name]
    turn(machine.root)
    for verb in (sync.check, sync.fetch_copy, lambda host: sync.update(host, despite_quarantine=True).decision):
        assert verb(machine.host()).verdict == Verdict.SWITCHED_OFF
    assert machine.loaded == []
    assert view.status(machine.host()).switched_off.switch == switch
    shutil.rmtree(made.repo)
    if switch == Switch.OFF:  # nobody is asked
        assert sync.check(machine.host()).verdict == Verdict.SWITCHED_OFF
    else:
        with pytest.raises(TrustError):
            sync.check(machine.host())


def test_no_switch(machine):
    """Words that only look like one do nothing."""
    (machine.root / "proc/cmdline").write_text("ro kmend=offline nokmend=off\n")
    assert view.status(machine.host()).switched_off is None
    assert sync.update(machine.host()).applied


def test_a_switch_keeps_what_is_loaded(machine):
    """Switching off takes nothing out, and unload still works."""
    sync.update(machine.host())
    (machine.root / "etc/kmend/disabled").touch()
    assert not sync.update(machine.host()).applied
    assert machine.livepatches() == ["kmend_1"]
    assert sync.unload_now(machine.host(), hold=False) == ("kmend_1",)


def test_a_host_that_is_not_enrolled(tmp_path):
    """Without a pinned root nothing can be fetched, but status works."""
    fake = FakeMachine(tmp_path / "bare")
    with pytest.raises(InputError, match="not enrolled"):
        sync.check(fake.host())
    assert view.status(fake.host()).channel is None


def test_a_kernel_without_livepatching(machine):
    """A kernel that cannot be live-patched says so."""
    shutil.rmtree(machine.root / "sys/kernel/livepatch")
    with pytest.raises(MachineError, match="cannot be live-patched"):
        sync.check(machine.host())


def test_another_root_needs_force(machine, tmp_path):
    """A host does not silently trust somebody else; with force it forgets what it saw of the old repository."""
    other = SimulatedRepository(tmp_path / "other")
    other.publish(1)
    sync.check(machine.host())
    host = machine.host()
    with pytest.raises(InputError, match="another root"):
        machine.enrol(other)
    assert sync.check(host).verdict == Verdict.AVAILABLE
    config.enrol(host.paths, root_json=other.root, repo=str(other.repo), channel="edge", now=other.now, force=True)
    assert sync.check(host).verdict == Verdict.AVAILABLE


def test_a_changed_pinned_root_is_noticed(machine):
    """The pinned root must be the one that was enrolled."""
    with (machine.root / "etc/kmend/root.json").open("a") as file:
        file.write(" ")
    with pytest.raises(KmendError, match="not the root"):
        sync.check(machine.host())
