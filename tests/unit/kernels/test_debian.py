"""Debian as a provider: which kernels it offers, read through apt itself."""

import pytest

from kmend.kernels import debian
from kmend.kit.errors import InputError, SourceError, TrustError


def _by_release(kernels):
    return {kernel.release: kernel for kernel in kernels}


def test_both_forms_of_release_names_are_read(archive, published):
    """Series and flavour come out of the old and the new naming alike."""
    archive.add_kernel("6.1.0-47-cloud-amd64", "6.1.170-3")
    archive.add_kernel("6.12.107+deb12-amd64", "6.12.107-1~deb12u1")
    published()
    found = _by_release(debian.offered())
    assert {name: (k.series, k.flavour) for name, k in found.items()} == {
        "6.1.0-47-cloud-amd64": ("6.1", "cloud-amd64"),
        "6.12.107+deb12-amd64": ("6.12", "amd64"),
    }
    assert all(kernel.complete for kernel in found.values())


def test_kernels_come_oldest_first_as_debian_counts(archive, published):
    """6.1.9 is older than 6.1.10, whatever the letters say."""
    archive.add_kernel("6.1.0-10-amd64", "6.1.10-1")
    archive.add_kernel("6.1.0-9-amd64", "6.1.9-1")
    published()
    assert [kernel.version for kernel in debian.offered()] == ["6.1.9-1", "6.1.10-1"]


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        ("dbg", "linux-image-6.1.0-47-amd64-dbg"),
        ("headers", "linux-headers-6.1.0-47-amd64"),
        ("common", "linux-headers-6.1.0-47-common"),
        ("source", "linux-source-6.1"),
    ],
)
def test_a_kernel_without_a_piece_names_it(archive, published, piece, name):
    """Each piece of a kit is looked for, and named when it is not offered."""
    archive.add_kernel(
        "6.1.0-47-amd64", "6.1.170-3", pieces=tuple({"image", "dbg", "headers", "common", "source"} - {piece})
    )
    published()
    (kernel,) = debian.offered()
    assert kernel.missing == (name,)


def test_the_source_of_another_version_does_not_count(archive, published):
    """A kit needs its source in exactly the version of the kernel."""
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3", pieces=("image", "dbg", "headers", "common"))
    archive.add_kernel("6.1.0-48-amd64", "6.1.172-1")
    published()
    found = _by_release(debian.offered())
    assert found["6.1.0-47-amd64"].missing == ("linux-source-6.1",)
    assert found["6.1.0-48-amd64"].complete


def test_an_unsigned_image_will_do(archive, published):
    """Where there is no signed image, the unsigned one of the same build is taken."""
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3", unsigned=True)
    published()
    (kernel,) = debian.offered()
    assert kernel.complete
    assert kernel.packages[0].name == "linux-image-6.1.0-47-amd64-unsigned"


def test_a_real_time_kernel_is_not_passed_off_as_complete(archive, published):
    """Its source is not the one in linux-source, so no kit of it is offered."""
    archive.add_kernel("6.1.0-47-rt-amd64", "6.1.170-3")
    published()
    (kernel,) = debian.offered()
    assert kernel.missing == ("source with the real-time changes",)


def test_empty_lists_say_what_to_do(published):
    """Without any kernel in its lists, the user hears of apt-get update."""
    published()
    with pytest.raises(SourceError) as caught:
        debian.offered()
    assert "apt-get update" in caught.value.hint


def test_a_source_version_that_is_not_offered_names_those_that_are(archive, published):
    """The error shows which versions there are."""
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3")
    published()
    with pytest.raises(InputError, match=r"6\.1\.170-3"):
        debian.source_package("6.1", "6.1.171-1")


def test_the_age_of_the_lists_is_known(archive, published):
    """Lists that were just read are new."""
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3")
    published()
    age = debian.lists_age()
    assert age is not None
    assert age < 60


def test_renewed_lists_show_what_is_new(archive, published):
    """A version that the mirror has gained is offered after renewing, not before."""
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3")
    published()
    archive.add_kernel("6.1.0-56-amd64", "6.1.192-2")
    archive.write_index()
    assert [kernel.version for kernel in debian.offered()] == ["6.1.170-3"]
    debian.renew()
    assert [kernel.version for kernel in debian.offered()] == ["6.1.170-3", "6.1.192-2"]


def test_a_mirror_that_is_away_is_no_success(archive, tmp_path, monkeypatch):
    """Renewing fails then, and the old lists stay."""
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3")
    with archive.served() as address:
        monkeypatch.setenv("APT_CONFIG", str(archive.publish(address)))
    with pytest.raises(SourceError, match="cannot be renewed"):
        debian.renew()
    assert [kernel.version for kernel in debian.offered()] == ["6.1.170-3"]


def test_unsigned_lists_are_refused(archive, published):
    """An index that nobody signed is not taken over."""
    archive.add_kernel("6.1.0-47-amd64", "6.1.170-3")
    published()
    sources = archive.folder / "apt/etc/apt/sources.list"
    sources.write_text(sources.read_text().replace("trusted=yes", "trusted=no"))
    (archive.folder / "Release").write_text("Date: Sat, 07 Nov 2026 11:17:40 UTC\n")
    with pytest.raises(TrustError):
        debian.renew()


def test_versions_are_compared_as_debian_counts():
    """Numbers count as numbers, and what follows a tilde is older."""
    assert debian.compare("6.1.10-1", "6.1.9-1") > 0
    assert debian.compare("6.12.107-1~deb12u1", "6.12.107-1") < 0
    assert debian.compare("6.1.9-1", "6.1.9-1") == 0
