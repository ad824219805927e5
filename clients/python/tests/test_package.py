from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fdrtd


def test_import_is_light() -> None:
    # Modules are counted instead of milliseconds: the count does not depend on how busy the machine is.
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import fdrtd\n"
        "new = set(sys.modules) - before\n"
        "heavy = {'urllib3', 'ssl', 'http.client', 'numpy', 'asyncio', 'email', 'fractions'} & new\n"
        "assert not heavy, heavy\n"
        "assert len(new) < 100, sorted(new)\n"
    )
    source = str(Path(fdrtd.__file__).parents[1])
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=60, env={"PYTHONPATH": source})


def test_the_package_is_typed_and_exports_what_it_says() -> None:
    assert (Path(fdrtd.__file__).parent / "py.typed").exists()
    for name in fdrtd.__all__:
        assert hasattr(fdrtd, name)
