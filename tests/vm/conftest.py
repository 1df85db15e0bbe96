"""What the tests with real kernels share: a kit that is fetched once and stays in the cache."""

import pytest

from kmend.build.builder import build
from kmend.build.plan import plan
from kmend.kernels import store
from kmend.kit.progress import Silent
from kmend.model.livepatch import Livepatch
from makers.fixes import make_fix


@pytest.fixture(scope="session")
def kit():
    """The kit of the oldest cloud kernel that still has one; the first run downloads 460 MB."""
    oldest, _ = store.oldest_and_newest()
    return store.fetch(oldest.release)


@pytest.fixture
def built(kit, tmp_path):
    """Builds a livepatch from a diff, and perhaps a probe, and returns its folder."""

    def make(diff, probe="", name="livepatch"):
        out = tmp_path / name
        result = build(plan([make_fix(diff, probe)], kit.kernel, number=1), kit, out=out, progress=Silent())
        assert isinstance(result, Livepatch), result
        return out

    return make
