"""The dashboard and the metrics, through the real application."""

import json
import re
from contextlib import closing
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import pytest

from kmend.agent import sync, view
from kmend.agent.metrics import exposition
from kmend.fleet.site.visit import form_token
from kmend.model import wire
from kmend.model.host import AgentPhase
from kmend.model.rollout import Wave
from makers.fleet import make_plan, make_report
from makers.looks import make_cves, make_exposure, make_group, make_look
from makers.nouns import KERNEL, NOW
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
    for host in hosts:
        server.ask("PUT", "/agent/look", bearer=host, json=wire.plain(make_look()))


def log_in(server, text=None):
    """Type a token into the form; the answer."""
    token = server.token("viewer") if text is None else text
    return server.request("POST", "/login", content=f"token={token}", headers=FORM)


SHAPES = {"rect", "line", "path", "circle"}
"""Of a picture; they close themselves."""


class Outline(HTMLParser):
    """Checks that tags close in order, and collects what a reader without eyes or script needs."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.labels, self.inputs, self.tags = [], [], set(), set(), set()
        self.acts = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """A tag opens."""
        self.tags.add(tag)
        values = dict(attrs)
        if tag == "label":
            self.labels.add(values["for"])
        if tag in {"input", "select"} and values.get("type") != "hidden" and "hidden" not in values:
            self.inputs.add(values["id"])
        if tag == "form" and values["method"] == "post":
            self.acts.add(values["action"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in {"meta", "link", "input", "br", *SHAPES}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """The one that opened last closes; a shape did already."""
        assert tag in SHAPES or self.open.pop() == tag


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
    """Numbers, rollouts with waves and reasons, events; every name escaped."""
    fill(server)
    log_in(server)
    page = server.request("GET", "/").text
    for words in (
        "stopped by itself: 1 of 2 updated hosts quarantined it",
        "100% of zone=a",
        "later",
    ):
        assert words in page
    assert cards(page) == {
        "hosts": 2,
        "safe": 1,
        "soaking": 0,
        "pending": 0,
        "bare": 0,
        "refused": 0,
        "quarantined": 1,
        "silent": 0,
    }
    assert "&lt;b&gt;web-0&lt;/b&gt; was offered livepatch 3" in page
    assert "<b>" not in page
    assert "&lt;plan&gt;" in page


def cards(page):
    """The counts of the first page."""
    found = re.findall(r"<dt>(?:<span[^>]*>.</span> )?(\w+)</dt><dd><a [^>]*>([0-9,]+)</a>", page)
    return {name.lower(): int(count) for name, count in found}


def test_every_card_leads_to_the_hosts_that_it_counts(server):
    """Each host is in one state only."""
    fill(server)
    log_in(server)
    counts = cards(server.request("GET", "/").text)
    listed = {name: server.request("GET", f"/hosts?state={name}").text.count('href="/hosts/') for name in counts}
    listed["hosts"] = server.request("GET", "/hosts").text.count('href="/hosts/')
    assert listed == counts
    assert sum(counts.values()) == 2 * counts["hosts"]
    assert server.request("GET", "/hosts?state=odd").status_code == 400


def test_states_of_hosts(server):
    """Pending while a rollout will bring something, refused while the host takes nothing, soaking, silent."""
    host = server.enrol()
    log_in(server)

    def state():
        return [
            name for name, count in cards(server.request("GET", "/").text).items() if count and name != "hosts"
        ]

    assert state() == ["silent"]
    server.check_in(host)
    assert state() == ["bare"]
    plan = wire.plain(make_plan(3, waves=(Wave(percent=100, selector="role=nobody"), Wave())))
    rollout = server.ask("POST", "/rollouts", json={"plan": plan}).json()["id"]
    assert state() == ["pending"]
    server.check_in(host, make_report(held="pinned"))
    assert state() == ["refused"]
    server.check_in(host)
    server.ask("POST", f"/rollouts/{rollout}/abort", json={"reason": ""})
    assert state() == ["bare"]
    server.ask("POST", "/rollouts", json={"plan": wire.plain(make_plan(3))})
    server.check_in(host)
    assert state() == ["soaking"]
    server.check_in(host, make_report(3))
    assert state() == ["safe"]


@pytest.fixture
def pages(server):
    """The address of every page of a fleet that is not empty."""
    fill(server)
    rollout = server.ask("GET", "/rollouts").json()["items"][0]["id"]
    host = server.ask("GET", "/hosts").json()["items"][0]["id"]
    plain = ["/", "/rollouts", "/hosts", "/livepatches", "/cves", "/cves?cve=CVE-2026-1234", "/access"]
    plain += ["/exposure", "/exposure?cve=CVE-2026-1003"]
    return [*plain, f"/rollouts/{rollout}", f"/hosts/{host}"]


def test_every_page_reads_without_eyes_and_without_scripts(server, pages):
    """Tags close, headings do not skip, every field has its label; what is not ours is not loaded."""
    log_in(server, server.token("admin"))
    for path in pages:
        answer = server.request("GET", path)
        assert answer.status_code == 200, path
        outline = Outline(answer.text)
        assert outline.open == [], path
        assert outline.inputs == outline.labels, path
        assert outline.headings[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(outline.headings)), path
        assert 'href="#main"' in answer.text
        assert not re.findall(r'(?:src|href|action)="(?!/|#|\?)', answer.text)
        assert not re.findall(r" (?:style|on[a-z]+)=", answer.text), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert server.request("GET", "/style.css").headers["content-type"].startswith("text/css")


def test_a_viewer_looks_and_does_not_act(server, pages):
    """No buttons, no access page, and the forms refuse."""
    log_in(server)
    rollout = next(path for path in pages if path.startswith("/rollouts/"))
    page = server.request("GET", rollout).text
    assert Outline(page).acts == {"/logout"}
    assert server.request("GET", "/access").status_code == 403
    assert "/access" not in page
    assert press(server, rollout, "abort").status_code == 403


def press(server, rollout, act, **fields):
    """Send a form of a rollout's page, with its form token unless another is given."""
    found = re.search(r'name="form" value="(\w+)"', server.request("GET", rollout).text)
    content = urlencode({"form": found[1] if found else "", **fields})
    return server.request("POST", f"{rollout}/{act}", content=content, headers=FORM)


def test_buttons_do_what_the_api_does(server, pages):
    """Resumed, paused, aborted, rolled back: each with its reason in the audit log, under the token's name."""
    log_in(server, server.token("operator"))
    rollout = next(path for path in pages if path.startswith("/rollouts/"))
    for act, state in (
        ("resume", "running"),
        ("pause", "paused"),
        ("abort", "aborted"),
        ("rollback", "rolled-back"),
    ):
        answer = press(server, rollout, act, reason=f"because <{act}>")
        assert (answer.status_code, answer.headers["location"]) == (303, rollout)
        assert server.ask("GET", rollout).json()["state"] == state
        newest = next(
            one for one in server.ask("GET", "/audit").json()["items"] if one["action"].startswith("rollout")
        )
        assert newest["action"] == f"rollout-{act}"
        assert newest["detail"] == f"because <{act}>"
        assert newest["actor"].endswith("a operator")
    refused = press(server, rollout, "pause", form=form_token(server.token("operator")))
    assert refused.status_code == 409
    assert "pause is not possible" in refused.text


def test_a_rollback_goes_back_to_the_number_that_was_typed(server, pages):
    """Not to one that is none, nor to one that is not lower."""
    log_in(server, server.token("operator"))
    rollout = next(path for path in pages if path.startswith("/rollouts/"))
    field = f"to-{KERNEL.build_id}"
    assert press(server, rollout, "rollback", reason="slow", **{field: "x"}).status_code == 400
    assert press(server, rollout, "rollback", reason="slow", **{field: "3"}).status_code == 409
    assert press(server, rollout, "rollback", reason="slow", **{field: "2"}).status_code == 303
    assert server.ask("GET", rollout).json()["back_to"] == [{"build_id": KERNEL.build_id, "number": 2}]


def test_forms_from_elsewhere_do_nothing(server, pages):
    """Without the form token, with somebody else's, or sent by another site."""
    log_in(server, server.token("operator"))
    rollout = next(path for path in pages if path.startswith("/rollouts/"))
    before = server.ask("GET", rollout).json()["state"]
    assert press(server, rollout, "abort", form="").status_code == 403
    assert press(server, rollout, "abort", form=form_token(server.token("admin"))).status_code == 403
    assert press(server, rollout, "abort", form="\u00e9").status_code == 403
    good = urlencode({"form": form_token(server.token("operator"))})
    other_site = {**FORM, "Sec-Fetch-Site": "cross-site"}
    assert server.request("POST", f"{rollout}/abort", content=good, headers=other_site).status_code == 403
    assert server.request("POST", f"{rollout}/dance", content=good, headers=FORM).status_code == 404
    many = "&".join(f"a{number}=1" for number in range(300))
    assert server.request("POST", f"{rollout}/abort", content=many, headers=FORM).status_code == 400
    assert server.request("POST", f"{rollout}/abort", content=good).status_code == 415
    assert server.ask("GET", rollout).json()["state"] == before
    server.request("POST", "/logout")
    assert server.request("POST", f"{rollout}/abort", content=good, headers=FORM).headers["location"] == "/login"


def test_what_is_not_there_or_cannot_be_is_said_on_a_page(server):
    """With a status that fits."""
    log_in(server, server.token("admin"))
    for path, code in (
        ("/hosts/nobody", 404),
        ("/hosts/a%00b", 400),
        ("/rollouts/none", 404),
        ("/livepatches/ab/1", 404),
        ("/livepatches/ab/x", 404),
        ("/cves?cve=%3Cscript%3E", 400),
        ("/hosts?selector=((", 400),
        ("/hosts?named=%00", 400),
        ("/hosts?cursor=zzz", 404),
        ("/rollouts?state=odd", 400),
        ("/access?cursor=WyJhIl0=", 404),
    ):
        answer = server.request("GET", path)
        assert answer.status_code == code, path
        assert Outline(answer.text).open == []
        assert "<script" not in answer.text


def test_lists_go_on_to_a_next_page(server):
    """And their links keep what was searched for."""
    for number in range(55):
        server.enrol(f"web-{number:02}", secret=f"{number + 1:064x}", labels={"role": "web"})
    server.enrol("other", secret="e" * 64)
    log_in(server)
    page = server.request("GET", "/hosts?selector=role%3Dweb&named=WEB-").text
    link = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    rest = server.request("GET", link).text
    hosts = re.findall(r'href="/hosts/(h\w+)"', page + rest)
    assert len(hosts) == len(set(hosts)) == 55
    assert 'rel="next"' not in rest
    assert "No host fits" in server.request("GET", "/hosts?named=%25").text


def test_a_host_with_its_history(server):
    """What it told, what it was offered, and what it would be told now."""
    host = server.enrol("web-1")
    log_in(server)
    path = f"/hosts/{host.split('.')[1]}"
    assert "has not reported yet" in server.request("GET", path).text
    server.check_in(host)
    server.later(minutes=1)
    server.check_in(host, make_report(held="pinned by \x1b[31malice", note="nothing to say"))
    server.later(minutes=1)
    server.check_in(host, make_report(2, phase=AgentPhase.SOAKING))
    page = server.request("GET", path).text
    for words in (
        "held back: pinned by \\u001b[31malice",
        "held back: no more",
        "phase: idle → soaking",
        "web-1 runs livepatch 2",
        "Stay as it is",
    ):
        assert words in page
    assert "\x1b" not in page


def test_exposure_over_the_fleet_and_on_a_host(server):
    """Who reaches a CVE, what fails; names from containers are only text, and viewers may look."""
    credential = server.enrol("web-1")
    names = ("<script>alert(1)</script>", "\x1b[2Jweb", "api")
    group = make_group(*names, cves=make_cves(1003, score=9.8, exploited=True), count=40)
    look = make_look(exposure=make_exposure(group), errors=("exposure: <i>no</i> luck",))
    server.check_in(credential, make_report())
    server.ask("PUT", "/agent/look", bearer=credential, json=wire.plain(look))
    log_in(server)
    page = server.request("GET", "/exposure").text
    for words in ("CVE-2026-1003", "9.8", "container-privileged", "of 1 hosts"):
        assert words in page
    page = server.request("GET", "/exposure?cve=cve-2026-1003").text
    for words in ("web-1", "&lt;script&gt;alert(1)&lt;/script&gt;", r"\u001b[2Jweb", "and 37 more"):
        assert words in page
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "No container" in server.request("GET", "/exposure?cve=CVE-2026-9999").text
    assert server.request("GET", "/exposure?cve=<b>").status_code == 400
    host = server.ask("GET", "/hosts").json()["items"][0]["id"]
    page = server.request("GET", f"/hosts/{host}").text
    for words in ("74%", "CVE-2026-1003", "exploited", "exposure: &lt;i&gt;no&lt;/i&gt; luck", "container web"):
        assert words in page


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


def test_the_picture_for_grafana_speaks_of_metrics_that_exist(server, machine):
    """packaging/grafana/kmend-fleet.json: names and labels are the server's or an agent's."""
    fill(server)
    answer = server.request("GET", "/metrics", headers={"Authorization": f"Bearer {server.token('viewer')}"})
    host = machine.host()
    sync.check(host)
    labels = {}
    text = answer.text + exposition(view.status(host), now=NOW)
    for name, inside in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', inside))
    board = json.loads((Path(__file__).parents[3] / "packaging/grafana/kmend-fleet.json").read_text())
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(targets) > 15
    for target in targets:
        [name] = set(re.findall(r"\bkmend_\w+", target["expr"]))
        asked = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) - {"instance"}
        asked |= set(re.findall(r"(\w+)=", re.sub("==", "", target["expr"])))
        asked |= {one for inside in re.findall(r"by \(([^)]*)\)", target["expr"]) for one in inside.split(", ")}
        assert name in labels
        assert asked <= labels[name], target
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(one["x"] + one["w"] <= 24 for one in places)
    assert len({panel["id"] for panel in board["panels"]}) == len(places)
