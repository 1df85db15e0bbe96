"""A headless Chromium, as Debian packages it; nothing is downloaded."""

import json
import os
import shutil
from contextlib import contextmanager

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

_QUIET = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but the test's own server is there, whatever the browser would like to ask.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PHONE = (360, 740)
DESK = (1280, 900)


def browser_programs():
    """Chromium and its driver, or None."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    return found if all(found) else None


@contextmanager
def running_browser(programs):
    """A browser that forgets all at its end, and whose log can be read."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    words = [*_QUIET]
    if os.getuid() == 0:
        words.append("--no-sandbox")  # root has none
    for word in words:
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def _is_gone(error):
    """Whether an element was replaced, which Chromium's driver says in two ways."""
    return isinstance(error, StaleElementReferenceException) or "does not belong to the document" in str(error)


class Browser:
    """What a person does: open, look, type, press keys."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, address):
        """Go there; the title."""
        self.driver.get(address)
        return self.driver.title

    def log_in(self, address, token):
        """Through the form."""
        self.driver.delete_all_cookies()
        self.open(f"{address}/login")
        self.one("#token").send_keys(token)
        self.press("button")

    def press(self, selector):
        """Press a button or a link, and wait for the page that it leads to."""
        before = self.one("html")
        self.one(selector).click()

        def left():
            try:
                before.is_enabled()
            except WebDriverException as error:
                return _is_gone(error)
            return False

        WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: left())

    def until(self, holds):
        """Wait until something holds that the page itself brings about."""

        def held():
            try:
                return holds()
            except WebDriverException as error:
                if _is_gone(error):
                    return False
                raise

        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: held())

    def one(self, selector):
        """The element that a CSS selector finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector="body"):
        """What a reader sees of an element; read at once, for the page may put another in its place."""
        self.one(selector)
        return self.run(f"return document.querySelector({json.dumps(selector)})?.innerText ?? ''").strip()

    def run(self, script):
        """What a script of the test says; the pages' own policy does not bind it."""
        return self.driver.execute_script(script)

    def complaints(self):
        """What the browser wrote into its console since it was asked last."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def size(self, width, height):
        """As a screen of this size would show it."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colours(self, scheme):
        """Light or dark, as the reader's system asks for it."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def scripts(self, *, on):
        """Whether pages may run scripts."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not on})

    def picture(self, file):
        """The whole page as an image."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return window.innerWidth")
        self.size(width, max(height, 300))
        self.driver.save_screenshot(str(file))
