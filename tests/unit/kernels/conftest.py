"""An archive with a few kernels, and a cache of its own, for each test."""

import pytest

from makers.archive import Archive

OLD = "6.1.0-47-cloud-amd64"
NEW = "6.1.0-56-cloud-amd64"


@pytest.fixture
def archive(tmp_path):
    """An archive that is still empty."""
    return Archive(tmp_path / "archive")


@pytest.fixture
def published(archive, tmp_path, monkeypatch):
    """Publishes the archive and makes it the only one that apt knows; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with archive.served() as address:

        def publish(**options):
            monkeypatch.setenv("APT_CONFIG", str(archive.publish(address, **options)))
            archive.requests.clear()

        yield publish


@pytest.fixture
def two_kernels(archive, published):
    """An old and a new kernel of one series, with everything."""
    archive.add_kernel(OLD, "6.1.170-3", padding=400_000)
    archive.add_kernel(NEW, "6.1.192-2")
    published()
    return archive
