"""Which hpctrain this is, as its installation says."""

from importlib.metadata import PackageNotFoundError, version


def find_version() -> str:
    """Returns the version, such as "0.1.0", or "not installed"."""
    try:
        return version("hpctrain")
    except PackageNotFoundError:
        return "not installed"
