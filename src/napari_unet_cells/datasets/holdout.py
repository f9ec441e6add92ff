"""Choose the regions of a dataset that are held out for validation.

One in five, and whole: never a part of a region, and where there are enough source images
all regions of one image together, since neighbours look alike. Regions are taken in the order
of a hash of their names, modality by modality: adding others moves none that was decided.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

#: Below so many regions nothing is held out; from so many source images on, all regions of one
#: image stay together.
FEWEST = 5

#: Fraction held out for validation.
FRACTION = 0.2


@dataclass(frozen=True)
class Member:
    """Image as the split sees it: its source, its modality, and its split so far.

    Attributes
    ----------
    source : str
        Names the image that it was cut from.
    region : str
        Names the region within the dataset; its versions share it.
    modality : str
    split : str
        "train", "val", or empty where it is to be decided.
    """

    source: str
    region: str
    modality: str = "unknown"
    split: str = ""


def enough(members: Sequence[Member]) -> bool:
    """Tell whether there are enough regions to hold some out."""
    return len({member.region for member in members}) >= FEWEST


def decide(members: Sequence[Member], fraction: float = FRACTION, seed: int = 0) -> list[str]:
    """Assign "train" or "val" to every item that has no split yet.

    Parameters
    ----------
    members : sequence of Member
        `enough` of them.
    fraction : float
        Fraction held out, 0 to 1; at least one group is, and never all.
    seed : int
        Random seed of the split.

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
    modalities = Counter(group[0].modality for group in groups.values())
    quotas = _quotas(modalities, fraction)
    for name in sorted(groups, key=lambda name: _hash(name, seed)):
        modality = groups[name][0].modality
        if decided[name]:
            continue
        alike = (other for other, group in groups.items() if group[0].modality == modality)
        held = sum(decided[other] == "val" for other in alike)
        decided[name] = "val" if held < quotas[modality] else "train"
    return [member.split or decided[_group(member, by_source)] for member in members]


def _group(member: Member, by_source: bool) -> str:
    return member.source if by_source else member.region


def _decided(group: Sequence[Member]) -> str:
    """Split of a group; where it is mixed, what is new is learned from, not measured on."""
    splits = {member.split for member in group if member.split}
    return "" if not splits else "val" if splits == {"val"} else "train"


def _quotas(modalities: Counter[str], fraction: float) -> dict[str, int]:
    """Count the groups to hold out of each modality, in proportion to those that there are."""
    n = sum(modalities.values())
    total = min(max(1, int(n * fraction + 1e-9)), n - 1)
    quotas, seen = {}, 0
    for modality in sorted(modalities):
        before, seen = seen, seen + modalities[modality]
        quotas[modality] = round(total * seen / n) - round(total * before / n)
    return quotas


def _hash(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
