"""The API against its own description: schemathesis asks what the document allows, and what it does not."""

from contextlib import closing

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis.generation import GenerationMode

from kmend.fleet.api.constraints import PATH
from kmend.fleet.api.table import ENDPOINTS, PREFIX
from kmend.fleet.store.database import open_database
from makers.database import fresh_postgres_database
from makers.server import TalkingServer

EXAMPLES = 25
"""Of each kind, for each endpoint."""
ROLES = ("enrol", "viewer", "operator", "admin")


@pytest.fixture(scope="module")
def server(postgres):
    """The server on PostgreSQL, which takes lengths and types in earnest, with a credential of each kind."""
    database = open_database(fresh_postgres_database(postgres))
    with pytest.MonkeyPatch.context() as patch, closing(database):
        patch.setattr("kmend.fleet.store.tokens.SCRYPT_COST", 2)
        with closing(TalkingServer(database)) as server:
            server.bearers = {role: server.token(role) for role in ROLES} | {"host": server.enrol()}
            yield server


@pytest.fixture(scope="module")
def described(server):
    """What the server says of itself."""
    return schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", server.app)


def can_be_wrong(endpoint):
    """Whether there is anything to get wrong, beside the token."""
    return endpoint.body or endpoint.query or any(f"{{{name}}}" in endpoint.path for name in PATH)


_LONG = 100_000


def str_of(part):
    """What a test is called."""
    return part.value if isinstance(part, GenerationMode) else f"{part.method} {part.path}"


# A stream has no end that schemathesis could wait for; test_streams.py asks it.
ENDING = [one for one in ENDPOINTS if one.path != "/events/stream"]
CASES = [(one, GenerationMode.POSITIVE) for one in ENDING]
CASES += [(one, GenerationMode.NEGATIVE) for one in ENDING if can_be_wrong(one)]


@pytest.mark.parametrize(("endpoint", "mode"), CASES, ids=str_of)
def test_what_is_described_is_what_is_done(server, described, endpoint, mode):
    """Every answer is described, no answer is a surprise, and nothing is taken that cannot be."""
    operation = described[PREFIX + endpoint.path][endpoint.method]
    headers = {"Authorization": f"Bearer {server.bearers[str(endpoint.needs)]}"}

    @settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        assume(mode == GenerationMode.POSITIVE or is_wrong_as_it_is_sent(case))
        # What is too long is refused as that (413), which schemathesis does not count among the refusals.
        assume(len(repr(case.body)) < _LONG)
        # Checks send wrong tokens: without time between them, all would be locked out.
        server.later(hours=2)
        case.call_and_validate(headers=headers)

    ask()


def is_wrong_as_it_is_sent(case):
    """Whether what is wrong is in the request: the token is put in later, and empty lists are not sent."""
    wrong = {place.value for place, part in case.meta.components.items() if part.mode == GenerationMode.NEGATIVE}
    sent = all(value not in ([], {}, None) for value in case.query.values())
    return bool(wrong - {"header", "query"}) or ("query" in wrong and sent)
