"""CVE records of the kernel's CNA, small ones, and a pair of source trees that close them."""

import json
from pathlib import Path

from kmend.exposure.units import Units

COMMIT = "b1b0b9efe641afa5c2d4ba2ec77aed7b6f4bc398"
BODY = "int {name}(int a)\n{{\n\treturn a{fixed};\n}}\n"


def record(cve: str, *files: str, severity: str = "", score: float = 0.0, text: str = "") -> dict:
    """One record in the CNA's form."""
    cna = {
        "title": f"fix {cve}",
        "descriptions": [{"lang": "en", "value": text}],
        "affected": [{"programFiles": list(files)}] * 2,
    }
    if severity:
        cna["metrics"] = [{"cvssV3_1": {"baseSeverity": severity.upper(), "baseScore": score}, "scenarios": []}]
    return {
        "dataType": "CVE_RECORD",
        "dataVersion": "5.1.1",
        "cveMetadata": {"cveId": cve, "state": "PUBLISHED"},
        "containers": {"cna": cna},
    }


def write_records(folder: Path, *records: dict) -> Path:
    """A clone of the CNA's repository with some records, each repaired in 6.1.178."""
    for one in records:
        cve = one["cveMetadata"]["cveId"]
        place = folder / "cve" / "published" / cve.split("-")[1] / f"{cve}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(one))
        lines = (
            f"# dyad version: 1.2.0\n5.3:c54c7c685494:6.12.97:e67572cd2204\n5.3:c54c7c685494:6.1.178:{COMMIT}\n"
        )
        place.with_suffix(".dyad").write_text(lines)
    return folder


def write_tree(folder: Path, files: dict[str, bool]) -> Path:
    """A source tree: each file holds one function, in the fixed form or not."""
    for path, fixed in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(BODY.format(name=place.stem.replace("-", "_"), fixed=" + 1" if fixed else ""))
    return folder


def make_units(objects: dict[str, str], included: dict[str, str] | None = None) -> Units:
    """A kernel built from some files: path and object; and files included by others."""
    return Units(
        recipe=1,
        build_id="ab" * 20,
        objects={path: (name,) for path, name in objects.items()},
        included={path: (root,) for path, root in (included or {}).items()},
    )
