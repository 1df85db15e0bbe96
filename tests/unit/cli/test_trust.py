"""kmend trust client, as the tuf-conformance suite would type it: what its documentation asks of a client.

The suite itself is not run here: pip finds no package of that name.
"""

import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import TargetFile

from kmend.cli.trust import client as command
from kmend.trust import client as steps
from makers.any_repository import AnyRepository
from makers.web import answers, as_it_is_written, body, web_server


class Client:
    """The command line, with folders of its own."""

    def __init__(self, folder, web, type_in):
        self.seen = folder / "seen"
        self.files = folder / "files"
        self.root = folder / "trusted.json"
        self.web = web
        self._type_in = type_in
        self.said = ""

    def init(self, root):
        """Exit code of init."""
        self.root.write_bytes(root)
        return self._run("init", self.root)

    def refresh(self):
        """Exit code of refresh."""
        return self._run("--metadata-url", f"{self.web.address}/metadata", "refresh")

    def download(self, name):
        """Exit code of download."""
        places = ("--target-base-url", f"{self.web.address}/targets", "--target-dir", self.files)
        return self._run(
            "--metadata-url", f"{self.web.address}/metadata/", "--target-name", name, *places, "download"
        )

    def asked(self):
        """What the web server was asked for since the last look, in order."""
        asked = [path.removeprefix("/metadata/") for path in self.web.asked]
        self.web.asked.clear()
        return asked

    def versions(self):
        """Of the metadata that it trusts, by role."""
        found = {path.stem: json.loads(path.read_bytes()) for path in self.seen.glob("*.json")}
        return {role: document["signed"]["version"] for role, document in found.items()}

    def contents(self):
        """Of what it has downloaded."""
        return sorted(path.read_bytes() for path in self.files.rglob("*") if path.is_file())

    def _run(self, *words):
        code, _, self.said = self._type_in("trust", "client", "--metadata-dir", self.seen, *words)
        assert "did not expect" not in self.said
        return code


@pytest.fixture
def repository(tmp_path):
    """Without delegations and files."""
    return AnyRepository(tmp_path / "repository")


@pytest.fixture
def web(tmp_path):
    """Serves the repository's folder."""
    with web_server(tmp_path / "repository") as server:
        yield server


@pytest.fixture
def fresh(tmp_path, web, type_in, monkeypatch):
    """A client that knows nothing."""
    monkeypatch.setenv("no_proxy", "*")
    return Client(tmp_path, web, type_in)


@pytest.fixture
def client(fresh, repository):
    """A client that has the first root."""
    assert fresh.init(repository.root()) == 0
    return fresh


def test_init_asks_nobody_and_refresh_asks_in_order(client):
    """The next root, timestamp, and what that names; kept under names without versions."""
    assert client.asked() == []
    assert client.versions() == {"root": 1}
    assert client.refresh() == 0
    assert client.asked() == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert client.versions() == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
    assert client.refresh() == 0
    assert client.asked() == ["2.root.json", "timestamp.json"]


def test_as_a_process_of_its_own(repository, tmp_path):
    """The exit codes are the process's."""
    trusted = tmp_path / "trusted.json"
    trusted.write_bytes(repository.root())
    words = [sys.executable, "-m", "kmend", "trust", "client", "--metadata-dir", tmp_path / "seen"]
    assert subprocess.run([*words, "init", trusted], check=False).returncode == 0
    address = ["--metadata-url", repository.folder / "metadata"]
    assert subprocess.run([*words, *address, "refresh"], check=False).returncode == 0
    next(repository.folder.glob("metadata/timestamp.json")).unlink()
    assert subprocess.run([*words, *address, "refresh"], check=False, capture_output=True).returncode == 1


def test_init_again(client, repository, tmp_path):
    """The same root changes nothing, another one is refused."""
    repository.publish("root")
    assert client.refresh() == 0
    assert client.init(repository.root()) == 0
    assert client.versions()["root"] == 2
    assert client.init(AnyRepository(tmp_path / "other").root()) == 1
    assert "another root" in client.said
    assert client.refresh() == 0


@pytest.mark.parametrize("fault", ["version", "signature"])
def test_an_initial_root_that_does_not_hold(fresh, repository, fault):
    """Nothing is asked of the repository then."""
    document = json.loads(repository.root())
    if fault == "version":
        del document["signed"]["version"]
    else:
        document["signatures"][0]["sig"] = "00" * 64
    assert fresh.init(json.dumps(document).encode()) == 1
    assert fresh.refresh() == 1
    assert "no trusted root yet" in fresh.said
    assert fresh.asked() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("refresh",), "--metadata-url"),
        (("--metadata-url", "ftp://x/", "refresh"), "ftp://x/"),
        (("--metadata-url", "/x", "download"), "--target-dir"),
        (("--metadata-url", "/x", "--target-dir", "/x", "download"), "--target-name"),
    ],
)
def test_options_that_are_missing_or_wrong(client, words, says):
    """Exit code 1, and which it is."""
    assert client._run(*words) == 1
    assert says in client.said


def test_download_refreshes_by_itself(client):
    """What nobody lists is not found, but the metadata is up to date."""
    assert client.download("nothing of that name") == 1
    assert "No trusted role" in client.said
    assert client.versions() == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
    assert client.contents() == []


@pytest.mark.parametrize("name", ["file.txt", "path/to/a/file.txt"])
def test_a_file_is_downloaded_once(client, repository, name):
    """Until it changes: then the new content has the old one's place."""
    repository.add("targets", name, b"first")
    repository.publish("targets")
    assert client.download(name) == 0
    assert client.contents() == [b"first"]
    client.asked()
    assert client.download(name) == 0
    assert client.asked() == ["2.root.json", "timestamp.json"]
    repository.add("targets", name, b"second")
    repository.publish("targets")
    assert client.download(name) == 0
    assert client.contents() == [b"second"]


def test_an_altered_file(client, repository):
    """It is not kept; what was there before stays."""
    repository.add("targets", "file", b"first")
    repository.publish("targets")
    assert client.download("file") == 0
    repository.add("targets", "file", b"second").write_bytes(b"eviler")
    repository.add("targets", "other", b"other").write_bytes(b"evil!")
    repository.publish("targets")
    for name in ("file", "other"):
        assert client.download(name) == 1
        assert "is not the file that was signed" in client.said
    assert client.contents() == [b"first"]


def test_a_file_with_sha512_only(client, repository):
    """Any hash of the specification will do."""
    repository.add("targets", "file", b"content", algorithm="sha512")
    repository.publish("targets")
    assert client.download("file") == 0
    assert client.contents() == [b"content"]


@pytest.mark.parametrize("name", ["..", ".", "../escape", "{folder}/escape", "a\\b", "name with spaces"])
def test_odd_names_of_files_stay_in_the_folder(client, repository, name):
    """Whatever a repository calls its files, nothing is written elsewhere."""
    name = name.format(folder=client.seen.parent)
    before = set(client.seen.parent.rglob("*"))
    repository.signed["targets"].targets[name] = TargetFile.from_data(name, b"content", ["sha256"])
    repository.publish("targets")
    client.web.acts = {"/metadata/*": as_it_is_written, "*": body(b"content")}
    assert client.download(name) == 0
    assert client.contents() == [b"content"]
    inside = (client.seen, client.files, repository.folder)
    new = set(client.seen.parent.rglob("*")) - before
    assert all(any(path.is_relative_to(folder) for folder in inside) for path in new)


def test_without_consistent_snapshots(fresh, tmp_path):
    """Names without versions and hashes, if the root says so."""
    plain = AnyRepository(tmp_path / "repository", consistent=False)
    plain.add("targets", "a/file", b"content")
    plain.publish("targets")
    assert fresh.init(plain.root()) == 0
    assert fresh.download("a/file") == 0
    assert fresh.asked() == ["2.root.json", "timestamp.json", "snapshot.json", "targets.json", "/targets/a/file"]


# Delegations (who, to whom, for which paths, "terminating"), and the order in which roles are asked.
GRAPHS = {
    "one": ([("targets", "A")], "A"),
    "depth first": ([("targets", "A"), ("targets", "B"), ("A", "C"), ("A", "D")], "ACDB"),
    "terminating": ([("targets", "A"), ("targets", "B"), ("A", "C", "terminating"), ("A", "D")], "AC"),
    "below terminating": ([("targets", "A"), ("targets", "B"), ("A", "C", "terminating"), ("C", "D")], "ACD"),
    "other paths": ([("targets", "A", "*.py"), ("targets", "B"), ("A", "C")], "B"),
    "cycle": ([("targets", "A"), ("targets", "B"), ("B", "C"), ("C", "D"), ("D", "B")], "ABCD"),
    "twice": ([("targets", "A"), ("targets", "B"), ("A", "C"), ("B", "D")], "ACBD"),
}


@pytest.mark.parametrize(("graph", "order"), GRAPHS.values(), ids=GRAPHS)
def test_the_order_of_delegations(client, repository, graph, order):
    """Preorder, depth first, each role once (section 5.6.7)."""
    _delegate(repository, graph)
    assert client.download("missing") == 1
    assert client.asked()[4:] == [f"{repository.signed[role].version}.{role}.json" for role in order]


def _delegate(repository, graph):
    roles = {"targets"}
    for delegator, role, *more in graph:
        paths = [one for one in more if one != "terminating"] or ["*"]
        repository.delegate(delegator, role, paths=paths, terminating="terminating" in more)
        roles |= {delegator, role}
    repository.publish(*sorted(roles))


def test_a_role_speaks_for_its_paths_only(client, repository):
    """What lies outside of the paths that were handed on is not found, though it is listed."""
    repository.delegate("targets", "B", paths=["releases/*/*"])
    repository.delegate("B", "D", paths=["releases/y/*"])
    repository.add("D", "releases/y/file", b"inside")
    repository.add("D", "releases/z/file", b"outside")
    repository.publish("targets", "B", "D")
    assert client.download("releases/z/file") == 1
    assert client.download("releases/y/file") == 0
    assert client.contents() == [b"inside"]


def test_a_role_that_two_delegate_to_with_different_keys(client, repository):
    """It has to be signed for the one that asks: what A's keys vouch for is not what B has named."""
    repository.delegate("targets", "A")
    repository.delegate("A", "C", paths=["none"])
    repository.delegate("targets", "B")
    repository.delegate("B", "C")
    repository.add("C", "file", b"content")
    repository.publish("targets", "A", "B", "C")
    assert client.download("file") == 0
    repository.signers["C"].pop()
    repository.publish("C")
    assert client.download("none") == 1
    assert client.versions()["C"] == 2
    assert client.download("file") == 1
    assert "not signed by enough of the trusted keys" in client.said
    updater = steps.refresh(client.seen, f"{client.web.address}/metadata")
    assert updater.get_targetinfo("none") is None
    with pytest.raises(UnsignedMetadataError):
        updater.get_targetinfo("file")


@pytest.mark.parametrize("role", ["?", "#", "/delegated", "../delegated", "ä b%2F"])
def test_odd_names_of_roles(client, repository, role):
    """They are quoted in addresses and in the names of files."""
    client.web.acts = {"/metadata/*": as_it_is_written}
    repository.delegate("targets", role)
    repository.publish("targets", role)
    assert client.download("missing") == 1
    assert "No trusted role" in client.said
    assert len(client.versions()) == 5


KINDS = {
    "rsa-pss": partial(CryptoSigner.generate_rsa, size=2048),
    "rsa-pkcs1": partial(CryptoSigner.generate_rsa, scheme="rsa-pkcs1v15-sha256", size=2048),
    "ecdsa": CryptoSigner.generate_ecdsa,
    "ed25519": CryptoSigner.generate_ed25519,
}


@pytest.mark.parametrize("new_signer", KINDS.values(), ids=KINDS)
def test_kinds_of_keys(fresh, tmp_path, new_signer):
    """All those of the specification."""
    repository = AnyRepository(tmp_path / "repository", new_signer=new_signer)
    assert fresh.init(repository.root()) == 0
    assert fresh.refresh() == 0


def test_thresholds(client, repository):
    """As many different keys must sign as the root asks for; the root itself is kept."""
    assert client.refresh() == 0
    repository.add_key("snapshot")
    repository.signed["root"].roles["snapshot"].threshold = 3
    repository.publish("root")
    assert client.refresh() == 1
    assert client.versions() == {"root": 2, "timestamp": 2, "snapshot": 1, "targets": 1}
    repository.add_key("snapshot")
    repository.publish("root")
    assert client.refresh() == 0
    assert client.versions()["snapshot"] == 3


def test_fields_that_nobody_knows(client, repository):
    """They are part of what is signed (section 4), and no reason to refuse."""
    root = repository.signed["root"]
    root.unrecognized_fields["custom"] = "value"
    next(iter(root.keys.values())).unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    root.roles["root"].unrecognized_fields["another"] = {"a": 1}
    repository.publish("root")
    assert client.refresh() == 0
    assert client.versions()["root"] == 2


@pytest.mark.parametrize("status", [403, 404])
def test_no_next_root(client, status):
    """Both answers mean that the newest one is known."""
    client.web.acts = {"*/2.root.json": answers(status)}
    assert client.refresh() == 0


def test_an_expired_root(client, repository):
    """It is kept, so that newer ones can follow, and nothing below it is looked at (section 5.3.10)."""
    assert client.refresh() == 0
    repository.signed["root"].expires = _yesterday()
    repository.publish("root", "targets")
    assert client.refresh() == 1
    assert client.versions() == {"root": 2, "timestamp": 1, "snapshot": 1, "targets": 1}
    repository.signed["root"].expires = repository.expires
    repository.publish("root")
    assert client.refresh() == 0
    assert client.versions()["root"] == 3


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_expired_metadata(client, repository, role):
    """It does not replace what was trusted before."""
    assert client.refresh() == 0
    repository.signed[role].expires = _yesterday()
    repository.publish("targets")
    assert client.refresh() == 1
    assert client.versions()[role] == 1
    assert "too old" in client.said


def _yesterday():
    return datetime.now(tz=UTC).replace(microsecond=0) - timedelta(days=1)


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_rollback_and_recovery(client, repository, role, hashes):
    """A lower version is refused until the keys that signed the higher one were replaced (section 6.1)."""
    repository.linked_by_hash = hashes
    repository.signed[role].version = 100
    repository.publish("targets")
    assert client.refresh() == 0
    high = client.versions()
    repository.signed[role].version = 1
    repository.publish("targets")
    assert client.refresh() == 1
    assert client.versions()[role] == high[role]
    for one in {"timestamp": ["timestamp"]}.get(role, ["timestamp", "snapshot"]):
        repository.replace_keys(one)
    repository.publish("root", "targets")
    assert client.refresh() == 0
    assert client.versions()[role] == repository.signed[role].version < 100


def test_a_timestamp_that_changed_without_a_new_version(client, repository):
    """The one that is known stays, and that is no error."""
    assert client.refresh() == 0
    known = (client.seen / "timestamp.json").read_bytes()
    repository.signed["timestamp"].version -= 1
    repository.signed["timestamp"].unrecognized_fields["other"] = 1
    repository.stamp()
    assert client.refresh() == 0
    assert (client.seen / "timestamp.json").read_bytes() == known


def test_the_page_shows_the_commands(tmp_path):
    """docs/reference/trust-client.md has each command with the options that it takes."""
    page = (Path(__file__).parents[3] / "docs/reference/trust-client.md").read_text()
    shown = [line for line in page.replace("\\\n", "").splitlines() if line.startswith("kmend trust client")]
    assert [shlex.split(line)[-1].lower() for line in shown] == ["trusted_root", "refresh", "download"]
    for line in shown:
        words = [word for word in shlex.split(line)[3:] if word != "TRUSTED_ROOT"]
        command.make_context("client", words)
    assert all(option.opts[0] in page for option in command.params)
