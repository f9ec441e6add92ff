"""TensorFlow or PyTorch: a process holds one of them, and refuses the other.

A process that was forked from one that holds any holds none: their threads stayed behind.

Both in one process end in a segmentation fault (docs/architecture.md, 0), and Keras computes with
the one that the variable ``KERAS_BACKEND`` names when it is imported. So whoever needs one of them
claims it here first; what needs the other one goes to another process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType

from napari_unet_cells.errors import UserError

#: The libraries that exclude each other, by the name under which they are imported, as Keras
#: names its backends.
TITLES = {"tensorflow": "TensorFlow", "torch": "PyTorch"}


#: Libraries whose threads compute; a forked process has their state, and none of their threads.
_WITH_THREADS = (*TITLES, "openvino")

#: What was claimed in this process; it need not be loaded yet.
_claimed = ""

#: Whether this process was forked from one that held one of `_WITH_THREADS`.
_inherited = False


def _note_fork() -> None:
    global _inherited
    _inherited = _inherited or any(name in sys.modules for name in _WITH_THREADS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class SecondLibrary(UserError):
    """The other one is loaded in this process: a process of its own can do what was asked for."""

    @classmethod
    def of(cls, asked: str, there: str) -> SecondLibrary:
        """Say which was asked for, and which is there."""
        return cls(
            f"{_title(asked)} cannot be loaded into this process, which already holds "
            f"{_title(there)}: both together would crash. Start another Python for one of them."
        )


class Inherited(SecondLibrary):
    """A network cannot compute in a forked process: it would wait for ever."""

    def __init__(self) -> None:
        super().__init__(
            "This process was forked from one that had loaded a network, and none can be loaded "
            "here: start processes with multiprocessing.get_context('spawn'), or fork before the "
            "first network is loaded."
        )


def refuse_inherited() -> None:
    """Refuse to compute where the threads of the library stayed in the process before the fork.

    Raises
    ------
    Inherited
    """
    if _inherited:
        raise Inherited


def claim(library: str) -> None:
    """Choose the library of this process, before it or Keras is imported.

    Parameters
    ----------
    library : str
        One of `TITLES`.

    Raises
    ------
    SecondLibrary
        Where the process holds another one, Keras on another one, or was forked from one that
        holds any.
    """
    global _claimed
    refuse_inherited()
    for other in TITLES:
        if other != library and (other in sys.modules or other == _claimed):
            raise SecondLibrary.of(library, other)
    keras = sys.modules.get("keras")
    if keras is None:
        os.environ["KERAS_BACKEND"] = library  # whatever else the user runs Keras with
    elif keras.config.backend() != library:
        raise SecondLibrary.of(library, keras.config.backend())
    _claimed = library
    if not any(isinstance(finder, _Refusal) for finder in sys.meta_path):
        # Keras on PyTorch looks for TensorFlow when it saves a model, and NNCF for either.
        sys.meta_path.insert(0, _Refusal())


def give_back(library: str) -> None:
    """Take a claim back where the library could not be loaded after all."""
    global _claimed
    if _claimed == library and sys.modules.get(library) is None:
        _claimed = ""


def claim_any() -> str:
    """Have Keras compute with the library that was claimed or is loaded, else with TensorFlow.

    Returns
    -------
    str
        Name of the library.

    Raises
    ------
    Inherited
        Where this process was forked from one that holds one.
    """
    refuse_inherited()
    keras = sys.modules.get("keras")
    if keras is not None:
        return str(keras.config.backend())
    library = library_here() or next((n for n in TITLES if installed(n)), "tensorflow")
    claim(library)
    return library


def library_here() -> str:
    """Name the library that was claimed or is loaded; empty for none."""
    return next((name for name in TITLES if name in sys.modules or name == _claimed), "")


def installed(library: str) -> bool:
    """Whether a library is there; it is not imported."""
    if library in sys.modules:
        return sys.modules[library] is not None
    try:
        spec = find_spec(library)
    except (ImportError, ValueError):
        return False
    return spec is not None


def _title(library: str) -> str:
    return TITLES.get(library, f"Keras with {library}")


class _Refusal(Loader):
    """Finds the library that was not claimed, and does not load it.

    Who looks for it goes on as if it were missing, or passes on the sentence.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        refused = _claimed and name in TITLES and name != _claimed
        there = refused and PathFinder.find_spec(name, path) is not None
        return ModuleSpec(name, self) if there else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        raise ImportError(str(SecondLibrary.of(spec.name, _claimed)), name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        raise ImportError(name=module.__name__)  # never: there is no module
