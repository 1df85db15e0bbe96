"""Which provider serves a machine, and whether each provider holds what it must."""

import inspect
import platform
import sys
from pathlib import Path

import pytest

from kmend import kernels
from kmend.kernels import debian, provider
from kmend.kit.errors import BugError, MachineError


@pytest.fixture(autouse=True)
def _ask_again():
    """No answer of one test is remembered in another."""
    provider.provider.cache_clear()
    yield
    provider.provider.cache_clear()


@pytest.mark.parametrize("module", [debian])
def test_a_provider_has_every_function_with_its_parameters(module):
    """What kernels/bring.py and store.py call is there, and takes what they give."""
    loaded = provider.load_provider(module.__name__.rpartition(".")[2])
    for name, wanted in inspect.getmembers(provider.Provider, inspect.isfunction):
        if not name.startswith("_"):
            given = dict.fromkeys(list(inspect.signature(wanted).parameters)[1:])
            inspect.signature(getattr(loaded, name)).bind(**given)


@pytest.mark.parametrize(
    ("system", "served"),
    [
        ({"ID": "debian"}, debian),
        ({"ID": "devuan", "ID_LIKE": "debian"}, debian),
        ({"ID": "new-one.9", "ID_LIKE": "other debian"}, debian),
    ],
)
def test_the_distribution_names_its_provider(monkeypatch, system, served):
    """ID counts first, then what ID_LIKE says in its order."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    assert provider.provider() is served


def test_a_distribution_is_one_file(monkeypatch, tmp_path):
    """A file with the name of the distribution is found and used, and nothing else had to be changed."""
    text = "from kmend.kernels.debian import *\nfrom kmend.kernels.debian import __all__\nRENEW_HINT = 'mine'\n"
    (tmp_path / "new_one.py").write_text(text)
    monkeypatch.setattr(kernels, "__path__", [*kernels.__path__, str(tmp_path)])
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "new-one", "ID_LIKE": "debian"})
    assert provider.provider().RENEW_HINT == "mine"
    del sys.modules["kmend.kernels.new_one"]


def test_a_machine_without_a_provider_hears_how_to_add_one(monkeypatch):
    """The error names the distribution and the page."""
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "none", "PRETTY_NAME": "None 1"})
    with pytest.raises(MachineError, match="None 1") as caught:
        provider.provider()
    assert "kernel-provider.md" in caught.value.hint


def test_the_page_for_newcomers_names_all_that_a_provider_holds():
    """docs/howto/kernel-provider.md has a row for each member."""
    text = (Path(__file__).parents[3] / "docs/howto/kernel-provider.md").read_text()
    assert [name for name in provider._MEMBERS if f"`{name}" not in text] == []


def test_half_a_provider_is_named_with_what_it_lacks():
    """A module that is no provider is not used by halves."""
    with pytest.raises(BugError, match="PIECES_HINT"):
        provider.load_provider("store")
