"""Write the generated code of the search service anew: ``python -m tests.regenerate_protos``.

The generator's version is pinned, and installed into an environment made for the purpose. It is
the last one whose code refuses no older grpcio or protobuf, so the bounds of the ``grpc`` extra
need not follow the generator; and it has wheels for Python 3.10 to 3.12.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

GENERATOR: Final = "grpcio-tools==1.62.3"
ROOT: Final = Path(__file__).resolve().parent.parent
PROTOS: Final = ROOT / "protos"
PROTO: Final = "manor/mcp/v1/search_service.proto"
PACKAGE: Final = "manor_mcp_interceptors._cli.demo.search_service"


def generate(into: Path, python: Path) -> None:
    """Write the two modules and the type stub into `into`, with the protoc of `python`."""
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    protoc = [str(python), "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
    subprocess.run([*protoc, *outputs, PROTO], check=True)


def move_into_package(generated: Path, package: Path) -> None:
    """Move the three files into `package`, importing each other from there.

    protoc derives the import from the file's path below ``protos/``. That path stays as it is,
    because it is also the file's name in protobuf's registry, which a service's own stubs share.
    """
    for source in sorted((generated / PROTO).parent.glob("*_pb2*")):
        text = source.read_text("utf-8")
        text = text.replace("from manor.mcp.v1 import", f"from {PACKAGE} import")
        (package / source.name).write_text(f"# mypy: ignore-errors\n{text}", "utf-8")


def main() -> None:
    """Install the generator, run it, and replace the generated code in the package."""
    with tempfile.TemporaryDirectory() as folder:
        environment, generated = Path(folder, "environment"), Path(folder, "generated")
        generated.mkdir()
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        python = environment / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", GENERATOR], check=True)
        generate(generated, python)
        move_into_package(generated, ROOT.joinpath(*PACKAGE.split(".")))


if __name__ == "__main__":
    main()
