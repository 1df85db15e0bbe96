"""A rack of simulated agents as one program, so that it can be killed: `rack.py SERVER FOLDER…`.

Each agent has a folder: `agent.json` says who it is, and its journal has what it sent and what was acknowledged, a
line each. The journal is all that an agent knows: killed and begun again, it goes on from there.
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

PAUSE = 0.05
SOAKS = 2
"""Check-ins for which a new livepatch is watched."""


class Journal:
    """What an agent wrote down; every line is whole or not there."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.path = self.folder / "journal"
        whole = self.path.read_bytes().rpartition(b"\n")[0] if self.path.exists() else b""
        self.lines = [json.loads(line) for line in whole.splitlines()]

    def add(self, **line):
        """Write a line with the time, in one piece; a killed agent's last one may have been cut off."""
        line["t"] = time.time()
        self.lines.append(line)
        with self.path.open("ab", buffering=0) as file:
            file.write(b"%b\n" % json.dumps(line).encode())

    def mend(self):
        """Take away half a line at the end."""
        whole = self.path.read_bytes() if self.path.exists() else b""
        self.path.write_bytes(whole[: whole.rfind(b"\n") + 1])


class Agent:
    """Reports, and does what it is offered."""

    def __init__(self, folder, server):
        self.journal = Journal(folder)
        self.journal.mend()
        known = json.loads((Path(folder) / "agent.json").read_text())
        self.bearer = f"kmend-host.{known['host']}.{known['secret']}"
        self.report = known["report"]
        self.address = urlsplit(server).netloc
        self.soaked = 0
        for line in self.journal.lines:
            if line["is"] == "acknowledged":
                self.obey(line["offer"])
        self.number = sum(line["is"] == "sent" for line in self.journal.lines)

    def obey(self, offer):
        """Change what the next report says."""
        if offer["action"] == "apply":
            self.report |= {"running": offer["number"], "phase": "soaking"}
            self.soaked = 0
        elif self.report["phase"] == "soaking":
            self.soaked += 1
            self.report["phase"] = "applied" if self.soaked > SOAKS else "soaking"

    def check_in_once(self):
        """One report, which has to be taken."""
        self.check_in(http.client.HTTPConnection(self.address, timeout=10))

    def run(self):
        """Check in for ever; what does not work is tried again, as soon as a test can bear."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        while True:
            try:
                self.check_in(connection)
            except (OSError, http.client.HTTPException):
                connection.close()
            time.sleep(PAUSE)

    def check_in(self, connection):
        """One report; no two are the same, so all that were acknowledged have to be in the history."""
        self.number += 1
        note = str(self.number)
        self.journal.add(**{"is": "sent"}, note=note, running=self.report["running"], phase=self.report["phase"])
        headers = {"Authorization": f"Bearer {self.bearer}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/check-in", json.dumps({**self.report, "note": note}), headers)
        answer = connection.getresponse()
        content = json.loads(answer.read())
        if answer.status == http.client.OK:
            self.journal.add(**{"is": "acknowledged"}, note=note, offer=content["offer"])
            self.obey(content["offer"])
        elif answer.status != http.client.SERVICE_UNAVAILABLE or "Retry-After" not in answer.headers:
            self.journal.add(**{"is": "refused"}, note=note, status=answer.status, content=content)


def main(server, *folders):
    """Run agents until killed."""
    for folder in folders:
        threading.Thread(target=Agent(folder, server).run, daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
