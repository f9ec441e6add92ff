"""Bind keys of a layer or a viewer for a while, and give it back those that it had.

Two docks of one viewer bind the same keys, and the one that came last has them. The other may
end first::

                     the layer has     and gets back from it
    dock 1 binds     1                 napari's
    dock 2 binds     2                 1
    dock 1 ends      2                 napari's
    dock 2 ends      napari's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakSet

Pressed = Callable[..., Any]


class HasKeys(Protocol):
    """A layer or a viewer of napari."""

    @property
    def keymap(self) -> Any:
        """Actions by key; one and the same mapping also through napari's proxy."""

    @property
    def bind_key(self) -> Any:
        """Binds a key, and gives what it did before."""


@dataclass(eq=False)
class Bound:
    """A key that was bound; `before` is what it did until then, None for nothing."""

    owner: HasKeys
    key: str
    pressed: Pressed
    before: Pressed | None

    def is_before(self, other: Bound) -> bool:
        """Whether another one would give the key back to this one."""
        same = other.owner.keymap is self.owner.keymap and other.key == self.key
        return same and other.before == self.pressed


#: Those that were not taken back yet.
_bound: WeakSet[Bound] = WeakSet()


def bind(owner: HasKeys, keys: Mapping[str, Pressed]) -> Sequence[Bound]:
    """Bind keys, and give what `unbind` needs."""
    bound = [
        Bound(owner, key, pressed, owner.bind_key(key, pressed, overwrite=True))
        for key, pressed in keys.items()
    ]
    _bound.update(bound)
    return bound


def unbind(bound: Sequence[Bound]) -> None:
    """Give back what the keys did before; a key that was bound anew since stays as it is."""
    for one in bound:
        _bound.discard(one)
        now = one.owner.bind_key(one.key, None)
        one.owner.bind_key(one.key, one.before if now == one.pressed else now)
        for other in _bound:
            if one.is_before(other):
                other.before = one.before
