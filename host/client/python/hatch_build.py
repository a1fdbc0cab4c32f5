"""Generates the messages from the .proto files of clients while a wheel is built: no generated file is kept.

In the repository the files are where the nodes have them; a source distribution takes a copy along.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTOS = ("stator/v1/kv.proto", "stator/v1/routing.proto")


class Messages(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        copied = root / "proto"
        protos = copied if copied.is_dir() else root.parents[1] / "proto" / "proto"
        if self.target_name == "sdist":
            for proto in PROTOS:
                build_data["force_include"][str(protos / proto)] = f"proto/{proto}"
            return
        # Not at the top: a source distribution is made without it.
        from grpc_tools import protoc

        self.made = TemporaryDirectory()
        out = self.made.name
        arguments = ["protoc", f"-I{protos}", f"--python_out={out}", f"--pyi_out={out}", *PROTOS]
        if protoc.main(arguments) != 0:
            raise RuntimeError(f"{protos} was not taken by protoc, which says why above")
        for made in Path(out, "stator", "v1").iterdir():
            # They import one another as the tree of the .proto files, which is not the package's.
            made.write_text(made.read_text().replace("from stator.v1 import", "from . import"))
            build_data["force_include"][str(made)] = f"stator_client/{made.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.target_name != "sdist":
            self.made.cleanup()
