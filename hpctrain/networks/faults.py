"""The exception for modules that cannot be trained."""

from hpctrain.errors import InputError


class NetworkError(InputError):
    """A module cannot be trained as a finite sum over samples."""
