"""The dashboard and the metrics, through the real application."""

import re
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kmend.model import wire
from kmend.model.rollout import Wave
from makers.fleet import make_plan, make_report
from makers.server import TalkingServer

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def server(sqlite):
    """A server with one host that did well and one that did not."""
    with closing(TalkingServer(sqlite)) as opened:
        yield opened


def fill(server):
    """Two hosts; the second one quarantined what the rollout brought."""
    hosts = [server.enrol(f"<b>web-{number}</b>", secret=f"{number:064x}") for number in range(2)]
    for host in hosts:
        server.check_in(host)
    plan = make_plan(3, waves=(Wave(soak=0), Wave(selector="zone=a")), name='a "bold" <plan>')
    server.ask("POST", "/rollouts", json={"plan": wire.plain(plan)})
    for host in hosts:
        server.check_in(host)
    server.later(minutes=1)
    server.check_in(hosts[0], make_report(3))
    server.check_in(hosts[1], make_report(quarantined=(3,)))


def log_in(server, text=None):
    """Type a token into the form; the answer."""
    token = server.token("viewer") if text is None else text
    return server.request("POST", "/login", content=f"token={token}", headers=FORM)


class Outline(HTMLParser):
    """Checks that tags close in order, and collects what a reader without eyes or script needs."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.labels, self.inputs, self.tags = [], [], set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """A tag opens."""
        self.tags.add(tag)
        values = dict(attrs)
        if tag == "label":
            self.labels.add(values["for"])
        if tag == "input":
            self.inputs.add(values["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in {"meta", "link", "input"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """The one that opened last closes."""
        assert self.open.pop() == tag


def test_who_is_not_logged_in_is_sent_to_the_form(server):
    """And so is who comes with a token that does not hold."""
    answer = server.request("GET", "/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    form = server.request("GET", "/login").text
    outline = Outline(form)
    assert outline.open == []
    assert outline.labels == outline.inputs == {"token"}
    refused = log_in(server, "kmend_nobody." + "x" * 43)
    assert refused.status_code == 401
    assert "not known" in refused.text
    assert "set-cookie" not in refused.headers
    assert log_in(server, server.token("enrol")).status_code == 403


def test_the_cookie_is_for_this_site_only(server):
    """No script reads it, no other site sends it; logging out forgets it."""
    answer = log_in(server)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "secure" in cookie
    assert "samesite=strict" in cookie
    assert server.request("GET", "/").status_code == 200
    server.request("POST", "/logout")
    assert server.request("GET", "/").status_code == 303


def test_the_fleet_at_a_glance(server):
    """Numbers, rollouts with waves and reasons, events; every name escaped; nothing that needs a script."""
    fill(server)
    log_in(server)
    answer = server.request("GET", "/")
    page = answer.text
    for words in (
        "<dd>2</dd>",
        "stopped by itself: 1 of 2 updated hosts quarantined it",
        "100% of zone=a",
        "later",
    ):
        assert words in page
    assert "&lt;b&gt;web-0&lt;/b&gt; was offered livepatch 3" in page
    assert "<b>" not in page
    assert "&lt;plan&gt;" in page
    outline = Outline(page)
    assert outline.open == []
    assert "script" not in outline.tags
    assert outline.headings[0] == 1
    steps = zip(outline.headings, outline.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert server.request("GET", "/style.css").headers["content-type"].startswith("text/css")


def test_an_empty_fleet_says_so(server):
    """And how to begin."""
    log_in(server)
    assert "kmend fleet rollout create" in server.request("GET", "/").text


def test_metrics_are_what_prometheus_reads(server):
    """Each line is a comment or a sample; the numbers are the fleet's; nobody reads them without a token."""
    fill(server)
    assert server.request("GET", "/metrics").status_code == 401
    answer = server.request("GET", "/metrics", headers={"Authorization": f"Bearer {server.token('viewer')}"})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'[a-z_]+(\{[a-z_]+="(?:[^"\\]|\\.)*"(,[a-z_]+="(?:[^"\\]|\\.)*")*\})? -?[0-9.e+]+')
    lines = answer.text.splitlines()
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in lines)
    for wanted in (
        "kmend_hosts 2",
        'kmend_hosts_state{state="safe"} 1',
        'kmend_hosts_state{state="troubled"} 1',
    ):
        assert wanted in lines
    assert any(line.startswith("kmend_rollout_state") and 'state="stopped"} 1' in line for line in lines)
    assert any('group="updated",kind="quarantined"} 1' in line for line in lines)
    assert any('name="a \\"bold\\" <plan>"' in line for line in lines)


def test_alert_rules_speak_of_metrics_that_exist(server):
    """packaging/prometheus/kmend-alerts.yml."""
    rules = (Path(__file__).parents[3] / "packaging/prometheus/kmend-alerts.yml").read_text()
    answer = server.request("GET", "/metrics", headers={"Authorization": f"Bearer {server.token('viewer')}"})
    known = set(re.findall(r"^# TYPE (\w+)", answer.text, re.MULTILINE))
    used = set(re.findall(r"\bkmend_\w+", rules))
    assert used
    assert used <= known
