"""The exception of modules that cannot be trained."""

from hpctrain.errors import InputError


class NetworkError(InputError):
    """A module that cannot be trained as a finite sum over samples."""
