from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import fdrtd

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "fdrtd"


def test_import_is_light() -> None:
    # Modules are counted instead of milliseconds: the count does not depend on how busy the machine is.
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import fdrtd\n"
        "new = set(sys.modules) - before\n"
        "heavy = {'urllib3', 'ssl', 'http.client', 'numpy', 'pandas', 'polars', 'asyncio', 'email',\n"
        "         'fractions', 'concurrent.futures', 'html', 'IPython'} & new\n"
        "assert not heavy, heavy\n"
        "assert len(new) < 100, sorted(new)\n"
    )
    source = str(Path(fdrtd.__file__).parents[1])
    subprocess.run([sys.executable, "-S", "-c", code], check=True, timeout=60, env={"PYTHONPATH": source})


def test_the_package_is_typed_and_exports_what_it_says() -> None:
    assert (Path(fdrtd.__file__).parent / "py.typed").exists()
    for name in fdrtd.__all__:
        assert hasattr(fdrtd, name)
    assert sorted(fdrtd.__all__) == sorted(set(fdrtd.__all__))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was made from it."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    target = tmp_path_factory.mktemp("dist")
    # Not isolated: what it needs is installed, and tests need no network.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return target


def test_wheel_and_sdist_hold_what_they_should(built: Path) -> None:
    version = fdrtd.__version__
    own = {f"fdrtd/{path.name}" for path in SOURCE.iterdir() if path.suffix == ".py"} | {"fdrtd/py.typed"}
    info = f"fdrtd-{version}.dist-info"
    with zipfile.ZipFile(built / f"fdrtd-{version}-py3-none-any.whl") as wheel:
        assert set(wheel.namelist()) == own | {
            f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD", f"{info}/licenses/LICENSE",
        }  # fmt: skip
        metadata = wheel.read(f"{info}/METADATA").decode()
    assert "Requires-Python: >=3.9" in metadata
    needed = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra" not in line
    ]
    assert needed == ["Requires-Dist: urllib3<3,>=2"]
    with tarfile.open(built / f"fdrtd-{version}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {f"src/{name}" for name in own} <= names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith((".venv", "dist", ".mypy_cache"))]


@pytest.mark.parametrize("what", ["wheel", "sdist", "directory"])
def test_it_is_installed_in_an_environment_of_its_own(built: Path, tmp_path: Path, what: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True, timeout=120)
    python = tmp_path / ("Scripts" if os.name == "nt" else "bin") / "python"
    source = ROOT if what == "directory" else next(built.glob({"wheel": "*.whl", "sdist": "*.tar.gz"}[what]))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    # Not isolated, as above: what builds it is lent by the tests' own environment.
    lent = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    command = [*install, "--no-index", "--no-build-isolation", str(source)]
    subprocess.run(command, check=True, timeout=120, env=lent)
    code = "import fdrtd; print(fdrtd.__version__, fdrtd.__file__)"
    command = [str(python), "-I", "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    version, place = output.split(maxsplit=1)
    assert version == fdrtd.__version__
    assert Path(place.strip()).is_relative_to(tmp_path)
