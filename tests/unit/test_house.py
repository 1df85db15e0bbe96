"""The house: which package may import which."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_rows_import_lower_rows_only():
    """No package imports its own row or a higher one (import-linter reads the contract in pyproject)."""
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_contract_names_every_package():
    """A package that the contract does not know would escape the rule."""
    contract = (ROOT / "pyproject.toml").read_text()
    packages = {path.parent.name for path in (ROOT / "src" / "kmend").glob("*/__init__.py")}
    assert packages
    assert all(f"kmend.{name}" in contract for name in packages)
