"""Facts of which every word may be anybody's: a clear outcome, no traceback, no long wait."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmend.audit.judge import audit
from kmend.audit.registry import CHECKS
from kmend.audit.views.junit import junit
from kmend.audit.views.markdown import markdown
from kmend.audit.views.page import page
from kmend.audit.views.sarif import sarif
from kmend.cli.audit import table
from kmend.model.facts import Facts, Mount, Setting
from makers import audited
from makers.audited import (
    NOW,
    case_of,
    right_host,
    with_container,
    with_engine,
    with_file,
    with_image,
    with_program,
)

WORDS = [
    "",
    "\x00",
    "²",
    "9" * 5000,
    "a" * 4000,
    "\ud800",
    "-1",
    "1e9",
    "NaN",
    ":" * 999,
    "[" * 999,
    "%s{}",
    "../../etc",
]


def made_of(word: str) -> Facts:
    """A host on which every word that a check reads is this one."""
    facts = right_host(host=word, distribution=word, listening=(word,), audit_rules=(word,))
    facts = with_engine(
        facts,
        given=dict.fromkeys(("icc", "log-level", "hosts", "userns-remap", "storage-opts", "cgroup-parent"), word),
        says={
            **dict.fromkeys(audited.SWARM, word),
            "Swarm.LocalNodeState": "active",
            "Networks.0.Driver": "overlay",
            "Networks.0.Name": word,
        },
        version=word,
    )
    facts = with_container(
        facts, name=word, restart=f"on-failure:{word}", image=word, image_id=word, apparmor=word, selinux=word,
        network=word, cgroup_parent=word, security=(word,), limits=(Setting(name=word, value=word),),
        binds=(Mount(target=word, source=f"/{word}", kind="bind", options=(word,), propagation=word),),
    )  # fmt: skip
    facts = with_image(
        facts, names=(word,), distribution=word, user=word, history=(word, f"ENV {word}", f"RUN curl {word}")
    )
    facts = with_program(facts, "runc", package_version=word, build_version=word, path=word)
    for path in (
        "/etc/containers/policy.json",
        "/var/lib/kubelet/config.yaml",
        "/var/lib/docker/swarm/docker-state.json",
    ):
        facts = with_file(facts, path, text=word)
    return facts


def everything(facts: Facts) -> None:
    """Judge, and show in every form."""
    report = audit(case_of(facts), CHECKS, version="1", now=NOW)
    for view in (sarif, junit, markdown, page):
        assert view(report)
    assert all(line.replace("\x1b[", "") for line in table.lines(report, everything=True) if line)


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_no_word_makes_a_check_stumble(word: str):
    """Neither numbers that are none, nor half letters, nor very long ones."""
    everything(made_of(word))


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=40))
def test_any_word_will_do(word: str):
    """Whatever stands there."""
    everything(made_of(word))


def test_what_is_built_to_keep_a_reader_busy_does_not():
    """Long steps that nearly match, many of them: cut, and judged all the same."""
    lines = ("RUN curl " + "-k" * 2000, "ENV " + "PASSWOR" * 600, "RUN " + "apt-get " * 500, "ADD " + "a" * 4000)
    everything(with_image(right_host(), history=lines * 500))


def test_a_hundred_thousand_mounts_are_judged():
    """A config.json may list them."""
    mount = Mount(target="/a", source="/srv/a", kind="bind", options=("ro",))
    everything(with_container(right_host(), mounts=(mount,) * 100_000, binds=(mount,) * 100_000))


def test_times_before_all_time():
    """An image from the year 1."""
    facts = with_image(right_host(), created=datetime(1, 1, 1, tzinfo=UTC))
    everything(replace(facts, collected=datetime(9999, 12, 31, tzinfo=UTC)))
