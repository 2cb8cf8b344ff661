"""A wheel has kernels for several levels of x86-64: the best one that the processor has is run."""

from types import SimpleNamespace

import pytest

from hpctrain.errors import InputError
from hpctrain.kernels import builds
from hpctrain.run.assemble import list_mixed_kernels

V3 = "avx avx2 bmi1 bmi2 f16c fma abm movbe"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"
BOTH = ("x86-64-v4", "x86-64-v3")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretends a processor with some flags, and an installation with some builds."""

    def pretend(flags, names):
        file = tmp_path / "cpuinfo"
        file.write_text(f"processor\t: 0\nflags\t\t: fpu sse2 {flags}\n", encoding="utf-8")
        modules = {builds._name_module(name) for name in names}
        monkeypatch.setattr(builds, "PROCESSOR", file)
        monkeypatch.setattr(builds, "_is_installed", modules.__contains__)
        monkeypatch.delenv(builds.VARIABLE, raising=False)
        builds._list_builds.cache_clear()

    yield pretend
    builds._list_builds.cache_clear()


@pytest.mark.parametrize(
    ("flags", "names", "expected"),
    [
        (V4, BOTH, "x86-64-v4"),
        (V3, BOTH, "x86-64-v3"),
        (V4.replace("avx512cd ", ""), BOTH, "x86-64-v3"),
        (V4.replace("bmi2 ", ""), BOTH, None),  # a level has all of those before it
        ("", BOTH, None),
        (V4, ("x86-64-v3",), "x86-64-v3"),
        ("", ("native",), "native"),
        (V4, ("native", *BOTH), "native"),
        (V4, (), None),
    ],
)
def test_the_highest_level_of_the_processor_is_chosen(installed, flags, names, expected):
    installed(flags, names)
    assert builds.choose_build() == expected


def test_all_ranks_can_be_held_to_one_level(installed, monkeypatch):
    installed(V4, BOTH)
    monkeypatch.setenv(builds.VARIABLE, "x86-64-v3")
    assert builds.choose_build() == "x86-64-v3"
    assert builds.describe_build() == "native kernels for x86-64-v3"
    monkeypatch.setenv(builds.VARIABLE, "torch")
    assert builds.choose_build() is None


@pytest.mark.parametrize(
    ("flags", "names", "wanted", "message"),
    [
        (V4, BOTH, "avx512", "'avx512' is not allowed: torch, native, x86-64-v4, x86-64-v3"),
        (V3, BOTH, "x86-64-v4", "this installation has for this processor x86-64-v3, torch"),
        (V4, ("native",), "x86-64-v3", "this installation has for this processor native, torch"),
    ],
)
def test_a_level_that_is_not_there_is_refused(
    installed, monkeypatch, flags, names, wanted, message
):
    installed(flags, names)
    monkeypatch.setenv(builds.VARIABLE, wanted)
    with pytest.raises(InputError, match=message):
        builds.choose_build()


@pytest.mark.parametrize("other", ["native kernels for x86-64-v3", "native kernels for x86-64-v4"])
def test_ranks_with_several_kernels_are_warned_of(other):
    mine = "native kernels for x86-64-v4"
    ranks = SimpleNamespace(allgather=lambda own: [own, other])
    said = list_mixed_kernels(SimpleNamespace(kernels=mine, ranks=ranks))
    assert len(said) == (other != mine)
    assert all(mine in line and other in line and builds.VARIABLE in line for line in said)
