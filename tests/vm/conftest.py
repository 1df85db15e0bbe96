"""What the tests with real kernels share: a kit that is fetched once and stays in the cache."""

import pytest

from kmend.kernels import store


@pytest.fixture(scope="session")
def kit():
    """The kit of the oldest cloud kernel that still has one; the first run downloads 460 MB."""
    oldest, _ = store.oldest_and_newest()
    return store.fetch(oldest.release)
