"""What the core may depend on, and what an import of it costs."""

from __future__ import annotations

import subprocess
import sys

import grimp


def test_the_core_imports_attrs_and_the_standard_library_and_nothing_else() -> None:
    graph = grimp.build_graph("benefits_core", include_external_packages=True, cache_dir=None)
    imported = {
        name.partition(".")[0]
        for module in graph.modules
        if module.startswith("benefits_core")
        for name in graph.find_modules_directly_imported_by(module)
    }

    assert imported - set(sys.stdlib_module_names) == {"attrs", "benefits_core"}


def test_importing_the_core_loads_no_framework_and_no_database() -> None:
    loads = "import sys, benefits_core; print(sorted({'flask', 'sqlite3', 'msgspec', 'click'} & set(sys.modules)))"

    # Without this process's environment, which may ask for coverage, and that for its database.
    assert subprocess.check_output([sys.executable, "-c", loads], env={}, text=True) == "[]\n"
