"""The real server in this process, spoken to through httpx; its clock is set by hand."""

import asyncio
from datetime import timedelta

import httpx

from kmend.fleet.app import first_admin_token, make_app
from kmend.model import wire
from makers.fleet import make_report
from makers.nouns import NOW

SECRET = "ab" * 32


class TalkingServer:
    """Asks the server; tokens of every role are made when they are first used."""

    def __init__(self, database, **more):
        self.now = NOW
        self.database = database
        self.app = make_app(database, clock=lambda: self.now, **more)
        self.loop = asyncio.Runner()
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="https://server")
        self.tokens = {"admin": first_admin_token(database, moment=NOW)}

    def later(self, **time):
        """Let time pass."""
        self.now += timedelta(**time)

    def token(self, role):
        """The text of a token with a role."""
        if role not in self.tokens:
            made = self.ask("POST", "/tokens", json={"name": f"a {role}", "role": role})
            self.tokens[role] = made.json()["text"]
        return self.tokens[role]

    def ask(self, method, path, *, role="admin", bearer=None, **more):
        """One request; ``bearer`` goes before the role's token."""
        text = bearer if bearer is not None else self.token(role) if role else ""
        headers = {**({"Authorization": f"Bearer {text}"} if text else {}), **more.pop("headers", {})}
        return self.request(method, f"/api/v1{path}", headers=headers, **more)

    def ask_together(self, method, path, asked):
        """Many requests at the same moment, each with its own credential and content."""

        async def all_of_them():
            return await asyncio.gather(
                *(
                    self.client.request(
                        method, f"/api/v1{path}", headers={"Authorization": f"Bearer {bearer}"}, json=content
                    )
                    for bearer, content in asked
                )
            )

        return self.loop.run(all_of_them())

    def request(self, method, url, **more):
        """One request to any address of the server."""
        return self.loop.run(self.client.request(method, url, **more))

    def close(self):
        """Let go of the loop."""
        self.loop.close()

    def enrol(self, name="web-1", *, secret=SECRET, **more):
        """A host, taken in; its credential."""
        answer = self.ask("POST", "/enrol", role="enrol", json={"name": name, "secret": secret, **more})
        assert answer.status_code == 201, answer.text
        return f"kmend-host.{answer.json()['host']}.{secret}"

    def check_in(self, credential, report=None):
        """A host reports."""
        content = wire.plain(report or make_report())
        return self.ask("POST", "/check-in", bearer=credential, json=content)
