"""What the names of folders and files say about the images in them.

All names of roles stand here, once. Case and separators do not matter: ``Ground Truth``
is ``ground_truth``; ``NG_2024`` has the word ``ng``.
"""

import re
from pathlib import Path
from typing import Literal

Role = Literal["normal", "anomalous", "mask", "train", "test", "validation"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Of the files that are taken for images; what they are, their content says."""

_WORDS: dict[Role, frozenset[str]] = {
    "normal": frozenset(
        "good ok okay normal normals pass passed free clean healthy perfect golden "
        "defect_free defectfree no_defect no_defects non_defect non_defective "
        "nondefective nodefect without_defect non_anomalous no_anomaly io i_o gut "
        "correct 良品 ok品 正常 正常品".split()
    ),
    "anomalous": frozenset(
        "bad ng nok ko not_ok not_good no_good no_ok defect defects defective defectives "
        "defected def anomaly anomalies anomalous anomal abnormal abnormals fail failed "
        "failure faulty fault faults reject rejects rejected scrap damaged broken nio "
        "n_i_o schlecht fehler ausschuss incorrect logical_anomalies "
        "structural_anomalies scratch scratches crack cracks hole holes dent dents stain "
        "stains contamination blowhole corrosion rust cracked crazing inclusion "
        "positive negative 不良 不良品 ng品 异常 異常 缺陷".split()
    ),
    "mask": frozenset(
        "mask masks label labels ground_truth groundtruth ground_truths gt gts "
        "annotation annotations anno annos annot seg segs segm segmentation "
        "segmentations segmentationclass foreground foregrounds matte mattes roi rois "
        "pixel_labels".split()
    ),
    "train": frozenset("train training trainset train_set fit".split()),
    "test": frozenset(
        "test tests testing testset test_set test_public test_private "
        "test_private_mixed query eval evaluation".split()
    ),
    "validation": frozenset("val valid validation validate dev".split()),
}
# Folders that hold the images beside one of masks.
_IMAGES = frozenset(
    "image images img imgs rgb picture pictures photo photos jpegimages input inputs "
    "raw original originals".split()
)
# The words that count inside a longer name, as in "ok_parts"; "io_module" says nothing.
_INSIDE: dict[Role, frozenset[str]] = {
    "mask": _WORDS["mask"],
    "anomalous": frozenset(
        "bad ng nok defect defects defective defectives defected def anomaly anomalies "
        "anomalous anomal abnormal abnormals fail failed faulty fault faults reject "
        "rejects rejected scrap damaged schlecht fehler ausschuss 不良品 缺陷".split()
    ),
    "normal": frozenset("good ok okay normal".split()),
}
# Turn the word that follows into its contrary: nothing certain can be said.
_NEGATIONS = frozenset("no not non without kein ohne nicht".split())
# Words that a file's own name may hold; "bad", "def" or "free" say too little there.
_IN_NAMES = frozenset(
    "ng nok defect defective anomaly anomalous abnormal faulty reject".split()
)
# Endings that turn the name of an image into that of its mask.
ENDINGS = (
    "mask masks gt ground_truth groundtruth label labels seg segm segmentation "
    "annotation anno annot region roi foreground fg matte"
).split()
_ENDING = re.compile(
    rf"(?P<stem>.+?)[ _.\-](?P<ending>{'|'.join(ENDINGS)})(?P<number>[ _.\-]?\d+)?",
    re.IGNORECASE | re.DOTALL,
)
_BEGINNING = re.compile(
    rf"(?:{'|'.join(ENDINGS)})[ _.\-](?P<stem>.+)", re.IGNORECASE | re.DOTALL
)
_IMAGE_ENDING = re.compile(r"\.(png|jpe?g|bmp|tiff?|webp)", re.IGNORECASE)
LABEL_FILES = (".csv", ".tsv", ".json", ".txt", ".xml", ".xlsx", ".yaml", ".yml")
"""Endings of tables and texts that may say which images are normal."""
_TABLE_WORDS = frozenset(
    "label labels annotation annotations groundtruth gt split splits defects classes "
    "anomalies".split()
)


def role_of(name: str, *, whole: bool = False) -> Role | None:
    """What the name of a folder says; ``None``: nothing.

    Args:
      name: of one folder.
      whole: look at the whole name only, and not at its words.
    """
    plain = re.sub(r"[\s_\-.]+", "_", name.strip().casefold()).strip("_")
    for role, words in _WORDS.items():
        if plain in words:
            return role
    pieces = [re.sub(r"\d+$", "", piece) for piece in plain.split("_")]
    if whole or _NEGATIONS & set(pieces):
        return None
    for role, words in _INSIDE.items():
        if words & set(pieces):
            return role
    return None


def is_container(name: str) -> bool:
    """Whether a folder's name says no more than that images or masks are in it."""
    return name.casefold() in _IMAGES or role_of(name, whole=True) == "mask"


def says_anomalous(name: str) -> bool:
    """Whether a file's name holds a word such as ``NG`` beside others."""
    pieces = re.split(r"[\s_\-.()]+", name.casefold())
    return (
        len(pieces) > 1
        and bool(_IN_NAMES & set(pieces))
        and not _NEGATIONS & set(pieces)
    )


def is_label_table(path: Path) -> bool:
    """Whether a file may be a table of labels."""
    pieces = set(re.split(r"[\s_\-.]+", path.stem.casefold()))
    return path.suffix.lower() in LABEL_FILES and bool(_TABLE_WORDS & pieces)


def mask_stems(name: str) -> dict[str, bool]:
    """Stems of the images that a mask of this name may belong to, without itself.

    Args:
      name: of the mask's file, without its extension.

    Returns:
      stem -> whether the name has a number, as one of several masks of an image.

    >>> mask_stems("003_mask")
    {'003': False}
    >>> mask_stems("003.jpg")
    {'003': False}
    >>> mask_stems("003_GT_2")
    {'003': True}
    """
    stems: dict[str, bool] = {}

    def add(stem: str, numbered: bool) -> None:
        stems.setdefault(stem, numbered)
        if _IMAGE_ENDING.fullmatch(Path(stem).suffix):
            stems.setdefault(Path(stem).stem, numbered)

    if ending := _ENDING.fullmatch(name):
        add(ending["stem"], ending["number"] is not None)
    if beginning := _BEGINNING.fullmatch(name):
        add(beginning["stem"], False)
    add(name, False)
    del stems[name]
    return stems


def ends_as_mask(name: str) -> bool:
    """Whether a file's name, without extension, has one of `ENDINGS`."""
    return _ENDING.fullmatch(name) is not None
