"""Builds the compiled kernels with CMake; without a C++ compiler the torch fallback is used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent.resolve()


def remove_builds(target: Path) -> None:
    """Removes the build for one processor and those for levels of x86-64."""
    target.unlink(missing_ok=True)
    shutil.rmtree(target.parent / "builds", ignore_errors=True)


class CMakeBuild(build_ext):
    """One CMake project behind one extension module; where it fails, no earlier build stays."""

    def run(self) -> None:
        for ext in self.extensions if self.inplace else ():  # an editable installation
            remove_builds(Path(self.get_ext_fullpath(ext.name)))
        super().run()

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        scratch = Path(self.build_temp).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        remove_builds(target)
        # A cache names the tools of the build environment that made it, which pip has removed.
        (scratch / "CMakeCache.txt").unlink(missing_ok=True)
        configure = [
            "cmake", str(HERE), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]  # fmt: skip
        try:
            subprocess.run(configure, cwd=scratch, check=True)
            subprocess.run(["cmake", "--build", "."], cwd=scratch, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.warn(
                f"hpctrain._kernels was not built ({error}). Install a C++17 compiler and"
                " reinstall for the native kernels; until then the torch fallback is used, which"
                " is slower."
            )


# optional: setuptools then tolerates that the module is missing after the warning above.
setup(
    ext_modules=[Extension("hpctrain._kernels", sources=[], optional=True)],
    cmdclass={"build_ext": CMakeBuild},
)
