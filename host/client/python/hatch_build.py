"""Generates the messages from `kv.proto` while a wheel is built: no generated file is kept.

In the repository the file is where the nodes have it; a source distribution takes a copy along.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO = "stator/v1/kv.proto"


class Messages(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        copied = root / "proto"
        protos = copied if copied.is_dir() else root.parents[1] / "proto" / "proto"
        if self.target_name == "sdist":
            build_data["force_include"][str(protos / PROTO)] = f"proto/{PROTO}"
            return
        # Not at the top: a source distribution is made without it.
        from grpc_tools import protoc

        self.made = TemporaryDirectory()
        out = self.made.name
        arguments = ["protoc", f"-I{protos}", f"--python_out={out}", f"--pyi_out={out}", PROTO]
        if protoc.main(arguments) != 0:
            raise RuntimeError(f"{protos / PROTO} was not taken by protoc, which says why above")
        for name in ("kv_pb2.py", "kv_pb2.pyi"):
            build_data["force_include"][f"{out}/stator/v1/{name}"] = f"stator_client/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.target_name != "sdist":
            self.made.cleanup()
