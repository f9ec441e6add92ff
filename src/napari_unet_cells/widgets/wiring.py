"""Connections to a viewer and its layers, taken back when their owner ends.

The viewer lives longer than a widget. A callback that a widget leaves there is called when the
widget is gone, and keeps its memory::

    class Form(Wired, QWidget):
        def __init__(self, viewer: Viewer) -> None:
            super().__init__()
            self.wiring.connect(self._follow, viewer.layers.selection.events.active)
            self._of_layer = self.wiring.part()      # released sooner, with another layer
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer

#: Events of a labels layer after which its pixels may be others. None says reliably which:
#: some come before the change, undo and redo only set the data.
PIXEL_EVENTS = ("paint", "labels_update", "set_data", "data")

#: Events after which the pixels of a layer may have another size in the world.
SCALE_EVENTS = ("scale", "affine", "units")

#: Events after which a layer may lie elsewhere in the world.
PLACE_EVENTS = (*SCALE_EVENTS, "translate", "rotate", "shear")


def emitters(layer: Layer, names: Iterable[str]) -> list[Any]:
    """Give the emitters of a layer that have these names; other versions of napari lack some."""
    return [getattr(layer.events, name) for name in names if hasattr(layer.events, name)]


def once(emitter: Any, action: Callable[[Any], object]) -> None:
    """Call an action with the next event of an emitter, and not again."""

    def call(event: Any) -> None:
        emitter.disconnect(call)
        action(event)

    emitter.connect(call)


class Wiring:
    """Callbacks that belong together and are taken back together.

    It is no Qt object: it works when those are gone already.
    """

    def __init__(self) -> None:
        self._back = ExitStack()

    def connect(self, method: Callable[..., object], *emitters: Any) -> None:
        """Call a method at each event of some emitters.

        Parameters
        ----------
        method : bound method
            Takes the event, or can do without. Its object is not kept alive.
        *emitters : napari.utils.events.EventEmitter
        """
        reference = weakref.WeakMethod(method)

        def call(event: Any = None) -> None:
            found = reference()
            if found is not None:
                found(event)

        for emitter in emitters:
            emitter.connect(call)
            self._back.callback(emitter.disconnect, call)

    def append(self, callbacks: list[Any], callback: Callable[..., Any]) -> None:
        """Append to one of napari's lists of mouse callbacks."""
        callbacks.append(callback)
        self._back.callback(_drop, callbacks, callback)

    def at_end(self, action: Callable[..., object], *arguments: Any) -> None:
        """Call an action at the end; the last one that was asked for comes first.

        It must not need the Qt object of the owner, which may be gone by then.
        """
        self._back.callback(action, *arguments)

    def part(self) -> Wiring:
        """Make a wiring that ends with this one, if it was not released before."""
        part = Wiring()
        self._back.callback(part.release)
        return part

    def release(self) -> None:
        """Take everything back; what is connected after that is released the next time."""
        self._back.close()


class Wired:
    """Base of Qt classes that listen to a viewer: their wiring ends when Qt destroys them.

    It stands before the class of Qt: ``class Form(Wired, QWidget)``.

    Attributes
    ----------
    wiring : Wiring
    """

    destroyed: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wiring = Wiring()
        when_destroyed(self, self.wiring.release)


def when_destroyed(owner: Any, action: Callable[[], object]) -> None:
    """Call an action once, when Qt destroys an object or its Python side is collected.

    Either can come first. Python keeps the finalizer until then: another callable that only Qt
    holds could be emptied by the garbage collector together with the owner, and Qt would call
    what is left of it, which ends in a segmentation fault.

    Parameters
    ----------
    owner : QObject
    action : callable
        Must not need the owner, and should not keep it alive.
    """
    finalizer = weakref.finalize(owner, action)
    finalizer.atexit = False
    owner.destroyed.connect(finalizer)


def _drop(callbacks: list[Any], callback: Callable[..., Any]) -> None:
    if callback in callbacks:
        callbacks.remove(callback)
