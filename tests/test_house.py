"""The repository is an application: what installs it keeps the three package names to itself (DESIGN §9)."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


def test_a_wheel_installs_no_top_level_package(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"prompt_orchestrator-0.1.0.dist-info"}


def test_an_editable_install_puts_the_root_on_the_path() -> None:
    where = "import agents, schemas, streams; print(*(m.__path__[0] for m in (agents, schemas, streams)), sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-P", "-c", where], cwd="/", capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert found == [str(ROOT / name) for name in ("agents", "schemas", "streams")]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-model.lock"])
def test_a_lock_file_pins_hashes_and_names_no_registry(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
        assert "://" not in entry, entry
