"""Installing without a compiler leaves no kernels behind, not even those of an earlier build."""

import os
import runpy
from pathlib import Path

import pytest
import setuptools
from setuptools import Distribution, Extension

SETUP = Path(__file__).parents[1] / "setup.py"
NAME = "hpctrain._kernels"


@pytest.mark.parametrize("in_place", [False, True])
def test_a_failed_compile_leaves_no_kernels_of_an_earlier_build(tmp_path, monkeypatch, in_place):
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.chdir(tmp_path)
    cmake = tmp_path / "bin" / "cmake"
    cmake.parent.mkdir()
    cmake.write_text("#!/bin/sh\nexit 1\n")
    cmake.chmod(0o755)
    monkeypatch.setenv("PATH", str(cmake.parent), prepend=os.pathsep)
    extension = Extension(NAME, sources=[], optional=True)
    step = runpy.run_path(str(SETUP))["CMakeBuild"](
        Distribution({"ext_modules": [extension], "packages": ["hpctrain"]})
    )
    step.build_lib, step.build_temp, step.inplace = "lib", "temp", in_place
    step.ensure_finalized()
    earlier = [Path("lib") / step.get_ext_filename(NAME)]
    earlier += [Path(step.get_ext_filename(NAME))] if in_place else []
    for module in earlier:
        module.parent.mkdir(parents=True)
        module.write_bytes(b"of an earlier build")
    step.run()
    assert not [module for module in earlier if module.exists()]
