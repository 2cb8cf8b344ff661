"""The root of every error that hpctrain raises on purpose."""

# Exit status of a command that was given bad input.
BAD_INPUT = 2


class HpctrainError(Exception):
    """An error of hpctrain's own."""


class RunError(HpctrainError):
    """A run that cannot go on: one line that says why, and exit status 1.

    Under MPI every rank raises it or none does.
    """


class InputError(HpctrainError):
    """Bad input: one line that names what was given and what is allowed.

    Under MPI every rank raises it or none does (read input through `run_on_root`), so that all
    ranks can end with exit status 2.
    """


class UserCodeError(InputError):
    """A function that the user wrote fails, perhaps on one rank alone.

    `Communicator.run_on_all` makes an `InputError` of it that all ranks raise. Anywhere else it
    ends the whole job, with exit status 2.
    """


class JobError(InputError):
    """A job file, or an override of it, that cannot be run."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
