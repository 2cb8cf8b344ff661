"""Which settings a run keeps when it goes on: all that its numbers depend on."""

import zlib

from hpctrain.job.overrides import Override
from hpctrain.job.own_code import is_given_again
from hpctrain.job.settings import Job

CHANGEABLE = ("stop.", "output.", "parallel.threads", "parallel.transport")
FIXED = ("output.path",)
ALLOWED = "stop.…, output.… (but not output.path), parallel.threads and parallel.transport"


def is_allowed(job: str, override: Override) -> bool:
    """Whether an override may change the job of a run that goes on.

    Args:
        job: the text of the job in the run file.
        override: a setting; a class that Python gave to the job must be given again.
    """
    is_changeable = override.key.startswith(CHANGEABLE) and override.key not in FIXED
    return is_changeable or is_given_again(job, override)


def compute_fingerprint(job: Job) -> int:
    """Computes a CRC-32 of all settings that cannot change when a run goes on."""
    parallel = job.parallel.model_copy(update={"transport": "auto"})
    fixed = job.model_copy(update={"parallel": parallel}).model_dump_json(
        exclude={"stop": True, "output": True, "parallel": {"threads"}}
    )
    return zlib.crc32(fixed.encode())
