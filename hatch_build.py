"""The build hook: compiles the static init for the machine that the wheel is built on, editable ones included.

Without a C compiler, or on an architecture that it does not know, the wheel has none and says that it runs anywhere;
inits are then Python's, and `reconciler doctor` says so.
"""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StaticInit(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = importlib.util.spec_from_file_location("compile_init", Path(self.root) / "tools" / "compile_init.py")
        assert spec is not None and spec.loader is not None
        compiling = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(compiling)
        compiling.TARGET.unlink(missing_ok=True)
        try:
            compiling.compile_init()
        except OSError as error:
            self.app.display_warning(f"the static init was not compiled: {error}")
            return
        build_data["artifacts"].append(f"/{compiling.TARGET.relative_to(self.root)}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
