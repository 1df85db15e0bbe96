"""The dashboard in a real browser, against the real server on the loopback."""

from contextlib import closing

import pytest

from kmend.fleet.store.database import open_database
from makers.nouns import KERNEL
from makers.repository import SimulatedRepository
from makers.site import HOSTILE, fill_fleet, running_site

pytest.importorskip("selenium", reason="the development libraries are not installed")

from selenium.webdriver.common.keys import Keys

from makers.browser import DESK, PHONE, browser_programs, running_browser


@pytest.fixture(scope="module", autouse=True)
def cheap_hashes():
    """As for the other tests, but for as long as the sites of this file live."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmend.fleet.store.tokens.SCRYPT_COST", 2)
        yield


@pytest.fixture(scope="module")
def chromium():
    """A browser for all tests of this file."""
    programs = browser_programs()
    if programs is None:
        pytest.skip("Chromium is not installed (Debian's packages chromium and chromium-driver)")
    with running_browser(programs) as opened:
        yield opened


@pytest.fixture(autouse=True)
def browser(chromium):
    """The browser as it is at first: a desk's screen, light, scripts on, nothing in its console."""
    chromium.size(*DESK)
    chromium.colours("light")
    chromium.scripts(on=True)
    chromium.complaints()
    return chromium


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A site with a fleet in all states, to look at only."""
    folder = tmp_path_factory.mktemp("site")
    with closing(open_database(f"sqlite:///{folder}/fleet.db")) as database, running_site(database) as site:
        _, site.rollout = fill_fleet(site, SimulatedRepository(folder / "release"))
        names = {one["name"]: one["id"] for one in site.ask("GET", "/hosts").json()["items"]}
        site.pages = {
            "home": "/",
            "rollouts": "/rollouts",
            "rollout": f"/rollouts/{site.rollout}",
            "hosts": "/hosts",
            "host": f"/hosts/{names['web-2.example.org']}",
            "hostile host": f"/hosts/{names[HOSTILE]}",
            "livepatches": "/livepatches",
            "livepatch": f"/livepatches/{KERNEL.build_id}/3",
            "cves": "/cves",
            "cve": "/cves?cve=CVE-2026-52928",
            "exposure": "/exposure",
            "exposed containers": "/exposure?cve=CVE-2026-1003",
            "access": "/access",
        }
        yield site


@pytest.fixture
def site(tmp_path):
    """A site of one's own, with a fleet."""
    with closing(open_database(f"sqlite:///{tmp_path}/fleet.db")) as database, running_site(database) as site:
        _, site.rollout = fill_fleet(site, SimulatedRepository(tmp_path / "release"))
        yield site


def test_who_logs_in_sees_the_fleet(browser, filled):
    """Through the form; a token that does not hold is refused on the spot."""
    browser.log_in(filled.address, "kmend_no.such-token-at-all-" + "x" * 20)
    assert "not known" in browser.text("[role=alert]")
    browser.complaints()
    browser.log_in(filled.address, filled.token("viewer"))
    assert browser.text("h1") == "The fleet"
    assert "14" in browser.text(".cards")
    assert browser.driver.get_cookies()[0]["httpOnly"]
    browser.press("header button")
    assert browser.driver.current_url == f"{filled.address}/login"
    browser.open(filled.address)
    assert browser.driver.current_url == f"{filled.address}/login"


def test_no_page_complains(browser, filled):
    """Nothing is refused by the pages' own policy, nothing is missing, nothing in a name became a tag."""
    browser.log_in(filled.address, filled.token("admin"))
    for name, path in filled.pages.items():
        title = browser.open(filled.address + path)
        assert title.startswith("kmend: "), name
        assert browser.complaints() == [], name
        assert browser.run("return document.querySelectorAll('main img, main b, main script').length") == 0, name


def test_the_policy_forbids_what_a_page_does_not_need(browser, filled):
    """A script or a style that somebody got into a page would not run."""
    browser.log_in(filled.address, filled.token("viewer"))
    browser.run(
        "const one = document.createElement('script');"
        "one.textContent = 'document.title = 1'; document.body.append(one)"
    )
    browser.run("document.body.setAttribute('style', 'display: none')")
    assert browser.driver.title == "kmend: the fleet"
    assert browser.one("main").is_displayed()
    assert sum("Content Security Policy" in one for one in browser.complaints()) == 2


def test_pages_fit_a_phone(browser, filled):
    """At 360 pixels nothing has to be pushed sideways but tables in their own frame."""
    browser.log_in(filled.address, filled.token("admin"))
    browser.size(*PHONE)
    for name, path in filled.pages.items():
        browser.open(filled.address + path)
        assert browser.run("return document.documentElement.scrollWidth") <= PHONE[0], name
        outside = browser.run(
            "return [...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, .unseen, svg')"
            " && one.getBoundingClientRect().right > 361).map(one => one.outerHTML.slice(0, 80))"
        )
        assert outside == [], name


def test_colours_follow_the_reader(browser, filled):
    """Dark is dark, light is light, and text stands out from both."""
    browser.log_in(filled.address, filled.token("viewer"))
    shades = {}
    for scheme in ("light", "dark"):
        browser.colours(scheme)
        browser.open(filled.address)
        shades[scheme] = [
            brightness(browser.run(f"return getComputedStyle(document.body).{name}"))
            for name in ("backgroundColor", "color")
        ]
    paper, ink = shades["light"]
    assert (paper > 230, ink < 40) == (True, True)
    paper, ink = shades["dark"]
    assert (paper < 40, ink > 200) == (True, True)


def brightness(colour):
    """Of rgb(…), 0 to 255."""
    return sum(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 3


def test_the_keyboard_reaches_everything(browser, filled):
    """The first key leads past the navigation, every stop can be seen, every control is a stop."""
    browser.log_in(filled.address, filled.token("operator"))
    browser.open(filled.address + filled.pages["rollout"])
    keys = browser.one("body")
    keys.send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"
    browser.run("document.body.focus(); document.activeElement.blur(); window.scrollTo(0, 0)")
    browser.open(filled.address + filled.pages["rollout"])
    seen = set()
    for _ in range(120):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        where = browser.driver.switch_to.active_element
        if where.tag_name == "body":
            break
        assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid", (
            where.tag_name
        )
        seen.add(where.get_attribute("name") or where.text)
    assert {"Hosts", "Log out", "reason", "Pause", "Abort …", "Roll back …", "stage", "Show"} <= seen


def test_pages_read_without_scripts(browser, filled):
    """All of them, and the search works."""
    browser.scripts(on=False)
    browser.log_in(filled.address, filled.token("viewer"))
    assert browser.text("h1") == "The fleet"
    for name, path in filled.pages.items():
        if name != "access":
            browser.open(filled.address + path)
            assert len(browser.text("main")) > 100, name
    browser.open(f"{filled.address}/hosts")
    browser.one("#named").send_keys("WEB-3")
    browser.press("main form button")
    assert "web-3.example.org" in browser.text("tbody")
    assert "web-4.example.org" not in browser.text("tbody")


def test_what_happens_appears_by_itself(browser, site):
    """Without a reload, and without disturbing who types."""
    browser.log_in(site.address, site.token("operator"))
    browser.open(f"{site.address}/rollouts/{site.rollout}")
    browser.until(lambda: browser.text("#live").startswith("Live"))
    browser.run("window.untouched = true")
    browser.one("#pause-reason").send_keys("half a sen")
    site.ask("POST", f"/rollouts/{site.rollout}/pause", json={"reason": "somebody else was faster"})
    browser.until(lambda: "somebody else was faster" in browser.text("#state"))
    assert "somebody else was faster" in browser.text("#events")
    assert browser.text("h1 .state") == "paused"
    assert browser.one("#pause-reason").get_attribute("value") == "half a sen"
    assert browser.run("return window.untouched")
    assert browser.complaints() == []


def test_a_page_says_when_it_is_not_live(browser, site):
    """The token was revoked meanwhile."""
    made = site.ask("POST", "/tokens", json={"name": "short", "role": "viewer"}).json()
    browser.log_in(site.address, made["text"])
    browser.until(lambda: browser.text("#live").startswith("Live"))
    site.ask("DELETE", f"/tokens/{made['token']['id']}")
    site.ask("PUT", "/channels/stable", json={"paused": True, "reason": ""})
    browser.until(lambda: "Reload the page" in browser.text("#live"))


def test_buttons_change_the_rollout(browser, site):
    """Pause and resume, then abort behind its fold, with a reason; all of it without a script."""
    browser.scripts(on=False)
    browser.log_in(site.address, site.token("operator"))
    browser.open(f"{site.address}/rollouts/{site.rollout}")
    browser.one("#pause-reason").send_keys("wait for <Bob>")
    browser.press("form[action$=pause] button")
    assert "Paused: pause by token" in browser.text("#state")
    assert "wait for <Bob>" in browser.text("#state")
    browser.press("form[action$=resume] button")
    assert "Running: resume by token" in browser.text("#state")
    browser.one("details:has(form[action$=abort]) summary").click()
    browser.one("#abort-reason").send_keys("not this one")
    browser.press("form[action$=abort] button")
    assert "Aborted: abort by token" in browser.text("#state")
    assert site.ask("GET", f"/rollouts/{site.rollout}").json()["state"] == "aborted"
    audit = site.ask("GET", "/audit").json()["items"]
    assert [one["action"] for one in audit[:3]] == ["rollout-abort", "rollout-resume", "rollout-pause"]
