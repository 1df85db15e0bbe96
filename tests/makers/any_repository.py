"""Any TUF repository in a folder, not kmend's: delegations, thresholds and kinds of keys as a test wants them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api import metadata as tuf

TOP = ("root", "timestamp", "snapshot", "targets")


class AnyRepository:
    """``signed`` is what will be published next; ``publish`` writes it into ``folder``."""

    def __init__(self, folder: Path, *, new_signer=CryptoSigner.generate_ed25519, consistent=True) -> None:
        self.folder = folder
        self.expires = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(days=30)
        self.new_signer = new_signer
        self.linked_by_hash = True
        self.signers = {role: [] for role in TOP}
        self.published = set()
        self.signed = {
            "root": tuf.Root(consistent_snapshot=consistent, expires=self.expires),
            "timestamp": tuf.Timestamp(expires=self.expires),
            "snapshot": tuf.Snapshot(expires=self.expires),
            "targets": tuf.Targets(expires=self.expires),
        }
        for role in TOP:
            self.add_key(role)
        self.publish("root", "targets")

    def add_key(self, role, delegator="root"):
        """One more key that may and does sign for a role."""
        signer = self.new_signer()
        self.signed[delegator].add_key(signer.public_key, role)
        self.signers[role].append(signer)

    def replace_keys(self, role):
        """Other keys for a top role; they count once root is published."""
        for signer in self.signers[role]:
            self.signed["root"].revoke_key(signer.public_key.keyid, role)
        self.signers[role] = []
        self.add_key(role)

    def delegate(self, delegator, role, *, paths=("*",), terminating=False):
        """Let a role speak for paths, too."""
        above = self.signed[delegator]
        above.delegations = above.delegations or tuf.Delegations({}, roles={})
        above.delegations.roles[role] = tuf.DelegatedRole(role, [], 1, terminating, list(paths))
        self.signed.setdefault(role, tuf.Targets(expires=self.expires))
        self.signers.setdefault(role, [])
        self.add_key(role, delegator)

    def add(self, role, path, content, *, algorithm="sha256"):
        """List a file, and lay it where clients look for it; returns that place."""
        info = tuf.TargetFile.from_data(path, content, [algorithm])
        self.signed[role].targets[path] = info
        folder, slash, name = path.rpartition("/")
        prefix = f"{info.hashes[algorithm]}." if self.signed["root"].consistent_snapshot else ""
        place = self.folder / f"targets/{folder}{slash}{prefix}{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return place

    def publish(self, *roles):
        """Sign the next version of these roles, of snapshot and of timestamp."""
        for role in roles:
            self._write(role)
        names = [role for role in self.signed if role not in {"root", "timestamp", "snapshot"}]
        self.signed["snapshot"].meta = {f"{role}.json": self._link(role) for role in names}
        self._write("snapshot")
        self.stamp()

    def stamp(self):
        """Sign the next timestamp over whatever the snapshot is."""
        self.signed["timestamp"].snapshot_meta = self._link("snapshot")
        self._write("timestamp")

    def root(self):
        """The first root: what a client starts from."""
        return (self.folder / "metadata/1.root.json").read_bytes()

    def _link(self, role):
        version = self.signed[role].version
        if not self.linked_by_hash:
            return tuf.MetaFile(version)
        return tuf.MetaFile.from_data(version, self._place(role).read_bytes(), ["sha256"])

    def _place(self, role):
        versioned = role == "root" or (role != "timestamp" and self.signed["root"].consistent_snapshot)
        version = f"{self.signed[role].version}." if versioned else ""
        return self.folder / f"metadata/{version}{quote(role, safe='')}.json"

    def _write(self, role):
        if role in self.published:
            self.signed[role].version += 1
        self.published.add(role)
        metadata = tuf.Metadata(self.signed[role])
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        place = self._place(role)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(metadata.to_bytes())
