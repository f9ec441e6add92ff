"""Choose the held-out regions of a dataset, to measure a model on.

One in five, and whole: never a part of a region, and where there are enough source images
all regions of one image together, since neighbours look alike. Regions are taken in the order
of a hash of their names, kind by kind: adding others moves none that was decided.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

#: Below so many regions nothing is held back; from so many source images on, they are not cut.
FEWEST = 5

#: Part that is held back.
FRACTION = 0.2


@dataclass(frozen=True)
class Member:
    """Protocol of an item that the split decides on.

    Attributes
    ----------
    source : str
        Names the image that it was cut from.
    region : str
        Names the region within the dataset; its versions share it.
    kind : str
    split : str
        "train", "val", or empty where it is to be decided.
    """

    source: str
    region: str
    kind: str = "unknown"
    split: str = ""


def enough(members: Sequence[Member]) -> bool:
    """Whether any are held back."""
    return len({member.region for member in members}) >= FEWEST


def decide(members: Sequence[Member], fraction: float = FRACTION, seed: int = 0) -> list[str]:
    """Divide items into "train" and "val"; what is decided stays.

    Parameters
    ----------
    members : sequence of Member
        `enough` of them.
    fraction : float
        Part that is held back, 0 to 1; at least one group is, and never all.
    seed : int
        Another one holds others back.

    Returns
    -------
    list of str
        One a member.
    """
    by_source = len({member.source for member in members}) >= FEWEST
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(_group(member, by_source), []).append(member)
    decided = {name: _decided(group) for name, group in groups.items()}
    kinds = Counter(group[0].kind for group in groups.values())
    quotas = _quotas(kinds, fraction)
    for name in sorted(groups, key=lambda name: _hash(name, seed)):
        kind = groups[name][0].kind
        if decided[name]:
            continue
        held = sum(
            decided[other] == "val" for other, group in groups.items() if group[0].kind == kind
        )
        decided[name] = "val" if held < quotas[kind] else "train"
    return [member.split or decided[_group(member, by_source)] for member in members]


def _group(member: Member, by_source: bool) -> str:
    return member.source if by_source else member.region


def _decided(group: Sequence[Member]) -> str:
    """Split of a group; where it is mixed, what is new is learned from, not measured on."""
    splits = {member.split for member in group if member.split}
    return "" if not splits else "val" if splits == {"val"} else "train"


def _quotas(kinds: Counter[str], fraction: float) -> dict[str, int]:
    """Count the groups to hold back of each kind, in proportion to those that there are."""
    n = sum(kinds.values())
    total = min(max(1, int(n * fraction + 1e-9)), n - 1)
    quotas, seen = {}, 0
    for kind in sorted(kinds):
        before, seen = seen, seen + kinds[kind]
        quotas[kind] = round(total * seen / n) - round(total * before / n)
    return quotas


def _hash(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
