"""A signed repository in a folder, made by the real release code, with ways to tamper with what it serves."""

import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile

from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.host import ChannelEntry
from kmend.model.kernel import Kernel
from kmend.release import ceremony, publish
from kmend.release.keyring import load_keyring
from kmend.release.keystore import load_signer, no_passphrase, private_path
from kmend.trust import layout
from makers.nouns import KERNEL, make_built


class SimulatedRepository:
    """``repo`` is what a web server would serve, ``keys`` signs it; livepatches go to the channel ``edge``."""

    def __init__(self, folder: Path, *, template: "SimulatedRepository | None" = None) -> None:
        self.folder = folder
        self.repo = folder / "repo"
        self.keys = folder / "keys"
        self.now = datetime.now(tz=UTC)
        if template:
            shutil.copytree(template.folder, folder, dirs_exist_ok=True)
            return
        ceremony.init_keys(self.keys, now=self.now, passphrase=None, module_key_bits=2048)
        publish.init_repository(self.repo, self.keys, now=self.now)

    @property
    def root(self) -> bytes:
        """The first root: what a host pins."""
        return (self.keys / "root/1.root.json").read_bytes()

    def publish(
        self, number: int = 1, *, kernel: Kernel = KERNEL, module: bytes | None = None, channel: str = "edge"
    ) -> ChannelEntry:
        """Publish a livepatch that has passed its lab."""
        built = self.folder / f"built-{kernel.build_id[:4]}-{number}"
        make_built(built, number, kernel=kernel, module=module)
        return self.publish_folder(built, channel=channel)

    def publish_folder(self, folder: Path, *, channel: str = "edge") -> ChannelEntry:
        """Publish what lies in a folder."""
        return publish.publish(
            folder, repo=self.repo, keys=self.keys, channel=channel, now=self.now, progress=Silent()
        )

    def refresh(self, *, days: float = 0) -> set[str]:
        """Renew what is due after some days."""
        return publish.refresh(self.repo, self.keys, now=self.now + timedelta(days=days))

    def rotate(self, role: str, **options: Any) -> None:
        """Replace a role's key."""
        ceremony.rotate(self.keys, role, now=self.now, passphrase=no_passphrase, **options)

    def copy(self, name: str) -> Path:
        """A copy of what is served now: a stale mirror, or something to mix with."""
        shutil.copytree(self.repo, self.folder / name)
        return self.folder / name

    def path(self, role: str) -> Path:
        """The newest metadata file of a role."""
        folder = self.repo / "metadata"
        if role == "timestamp":
            return folder / "timestamp.json"
        return max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.split(".")[0]))

    def module_path(self, number: int = 1) -> Path:
        """The signed module as it is served."""
        return next(self.repo.glob(f"targets/edge/*/*.kmend_{number}.ko"))

    def entry_path(self) -> Path:
        """The newest entry as it is served."""
        return max(self.repo.glob("targets/edge/*/*.entry.json"), key=lambda path: path.stat().st_mtime_ns)

    def resign(self, role: str, *, key: str = "", change: Any = None, signer: CryptoSigner | None = None) -> None:
        """Change a role's metadata and sign it again: with its own, another or no real (``stranger``) key."""
        path = self.path(role)
        metadata = Metadata[Any].from_bytes(path.read_bytes())
        if change:
            change(metadata.signed)
        metadata.signatures.clear()
        metadata.sign(signer or (self.signer(role) if key != "stranger" else stranger(metadata, self, role)))
        path.write_bytes(metadata.to_bytes())

    def relink(self) -> None:
        """Let snapshot and timestamp, with their real keys, name whatever lies there for edge."""
        edge = self.path("edge").read_bytes()
        self.resign("snapshot", change=lambda signed: _name(signed.meta["edge.json"], edge))
        snapshot = self.path("snapshot").read_bytes()
        self.resign("timestamp", change=lambda signed: _name(signed.snapshot_meta, snapshot))

    def put(self, target: str, content: bytes) -> None:
        """Let the channel's own key sign a file: a mistake, or stolen keys of channel, snapshot and timestamp."""
        info = TargetFile.from_data(target, content, ["sha256"])
        stored = self.repo / "targets" / layout.stored_as(target, info.hashes["sha256"])
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(content)
        self.resign("edge", change=lambda signed: signed.targets.__setitem__(target, info))
        self.relink()

    def rewrite_entry(self, change: Any) -> None:
        """Let the channel's own key sign another entry."""
        entry = change(wire.load(ChannelEntry, self.entry_path().read_bytes(), what="entry"))
        self.put(layout.entry_target("edge", KERNEL.build_id), wire.dump(entry).encode())

    def signer(self, role: str) -> CryptoSigner:
        """What signs for a role."""
        return self.signers(role)[0]

    def signers(self, role: str) -> list[CryptoSigner]:
        """All keys of a role."""
        return [
            load_signer(private_path(self.keys, record.name), record, passphrase=no_passphrase)
            for record in load_keyring(self.keys).role(role).keys
        ]


def _name(meta: MetaFile, content: bytes) -> None:
    meta.hashes = {"sha256": hashlib.sha256(content).hexdigest()}
    meta.length = len(content)


def stranger(metadata: Metadata[Any], repository: SimulatedRepository, role: str) -> CryptoSigner:
    """A signer with a key of its own that claims the key id of the role's real key."""
    signer = CryptoSigner(Ed25519PrivateKey.generate())
    signer.public_key.keyid = repository.signer(role).public_key.keyid
    return signer


def flip_bit(path: Path, *, place: int | None = None) -> None:
    """Alter one bit in the middle of a file, or at a place."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def flip_signature_bit(path: Path) -> None:
    """Alter one bit of every signature in a metadata file, leaving it well-formed and as long as it was."""
    text = path.read_text()
    for signature in json.loads(text)["signatures"]:
        sig = signature["sig"]
        text = text.replace(sig, f"{int(sig[0], 16) ^ 1:x}{sig[1:]}")
    path.write_text(text)
