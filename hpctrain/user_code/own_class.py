"""Finds classes of the user, which a job names as "file.py:Class", or which Python gave."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from hpctrain.errors import InputError
from hpctrain.options import FROM_PYTHON, GivenClass
from hpctrain.user_code.faults import explain

Own = TypeVar("Own")


def find_class(key: str, name: str, base: type[Own]) -> type[Own]:
    """Imports the file that a job names, and returns its class.

    Args:
        key: the setting, for messages.
        name: "file.py:Class", or a class that was given in Python.
        base: of which the class must be a subclass.

    Raises:
        InputError: there is no such file or class, or the file fails.
    """
    if isinstance(name, GivenClass):
        if issubclass(name.given, base):
            return name.given
        raise InputError(f"{key} = {name!r} is not allowed: a subclass of {base.__name__}")
    file, _, class_name = name.rpartition(":")
    if re.fullmatch(FROM_PYTHON, name):
        raise InputError(
            f"{key} = {name!r}: this class was given in Python, and is in no file: give it again,"
            f' set={{"{key}": {class_name}}}, to hpctrain.train, resume or load'
        )
    if not Path(file).is_file():
        raise InputError(f"{key} = {name!r}: there is no file {file} (from {Path.cwd()})")
    try:
        found = getattr(_import(file), class_name, None)
    except (Exception, SystemExit) as error:
        raise _failure(key, name, error) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise InputError(
            f"{key} = {name!r}: {file} has no class {class_name} of type {base.__name__}"
        )
    return found


def own_class(key: str, name: str, base: type[Own]) -> Callable[..., Own]:
    """Returns what makes an object of the class that a job names; see `find_class`.

    It raises an InputError where the class fails when it is called.
    """
    found = find_class(key, name, base)

    def make(*arguments: Any) -> Own:
        try:
            return found(*arguments)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise _failure(key, name, error) from error

    return make


def _failure(key: str, name: str, error: BaseException) -> InputError:
    return InputError(f"{key} = {name!r} fails: {explain(error, name.rpartition(':')[0])}")


def _import(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None, "job files name *.py files only"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
