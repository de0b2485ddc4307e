"""What an evaluation is: the figures of one model on one data set, each photograph's, and how they were made.

Plain records. `evaluate.py` computes them, `evaluation_file.py` writes them and reads them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from dermask.evaluation.bootstrap import Interval, Resampling
from dermask.evaluation.boundary import BoundaryFigures, MeanBoundary
from dermask.evaluation.calibration import Reliability
from dermask.evaluation.coco_ap import CocoFigures
from dermask.evaluation.detection import DetectionFigures, Precision
from dermask.evaluation.isic_challenge import PhotoFigures
from dermask.evaluation.photo_masks import Rule
from dermask.evaluation.subgroups import Subgroup, TraitSpread
from dermask.evaluation.traits import PhotoTraits
from dermask.records import ImageSize

POINT_FIGURES = ("precision", "recall", "f1", "false_alarms_per_photo")
"""Figures of an operating point that have an interval."""


class ValidationFigures(NamedTuple):
    """What training looks at after an epoch.

    Attributes:
        val_jaccard: Mean Jaccard index over photographs, [0, 1].
        val_mask_ap: COCO mask AP, [0, 1]; NaN where no photograph has a label to find.
    """

    val_jaccard: float
    val_mask_ap: float


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """The result of one photograph.

    Attributes:
        image_id: Which photograph.
        size: Its size.
        num_lesions: Labelled lesions, crowd regions not counted.
        num_detections: Detections that entered the mask under the evaluation's rule.
        best_score: The best detection's score; None where nothing was found.
        figures: The challenge's figures.
        boundary: How near the two borders are.
        traits: What kind of photograph it is.
        unit: Photographs of one unit are drawn together when uncertainty is estimated: ``patient P1`` or
            ``lesion L1`` by their ids, or the photograph's own id.
        mm_per_pixel: Scale of the photograph; None where it is not known.
    """

    image_id: str
    size: ImageSize
    num_lesions: int
    num_detections: int
    best_score: float | None
    figures: PhotoFigures
    boundary: BoundaryFigures
    traits: PhotoTraits = field(default_factory=PhotoTraits)
    unit: str = ""
    mm_per_pixel: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What went into an evaluation.

    Attributes:
        photographs: All of them.
        without_lesion: Photographs without a label.
        without_detection: Photographs in which nothing was found.
        lesions: Labelled lesions, crowd regions not counted.
        crowd_regions: Regions that neither count for nor against.
        detections: Of any score.
    """

    photographs: int
    without_lesion: int
    without_detection: int
    lesions: int
    crowd_regions: int
    detections: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score from which a detection counts.

    Attributes:
        score_thresh: In [0, 1].
        origin: Where it comes from: ``default``, ``given``, or the evaluation of validation photographs that chose it.
    """

    score_thresh: float
    origin: str = "default"


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The figures of one model on one data set, and how they were made.

    Attributes:
        figures: Means over photographs of the challenge's figures.
        boundary: Means over photographs of the borders' figures.
        coco: Box and mask average precision.
        detection: Precision, recall and false alarms, as curves and at the threshold.
        score_calibration: Whether a score is the share of detections that are right.
        mask_calibration: Whether a mask's probabilities are; None where predictions hold none.
        intervals: Confidence intervals by dotted name, such as ``isic.jaccard`` or ``coco.mask.ap50``; a figure that
            is not there has none, and no claim should rest on it.
        subgroups: Figures of photographs of one kind.
        spreads: Whether these kinds differ in the Jaccard index by more than chance, by trait.
        resampling: How the intervals were made.
        pooled: The challenge's figures over all pixels of all photographs at once, where asked for; not comparable.
        rows: One per photograph, in the data set's order.
        counts: What went in.
        rule: Which detections made the one mask of each photograph.
        threshold: From which score detections count, for the rule `union` and for `detection.chosen`.
        mask_thresh: Mask probability from which a pixel belongs to a detection.
        class_names: Name of label i at index i - 1.
        dataset_name: What the data set calls itself.
        dataset_fingerprint: Its hash.
    """

    figures: PhotoFigures
    boundary: MeanBoundary
    coco: CocoFigures
    detection: DetectionFigures
    score_calibration: Reliability
    mask_calibration: Reliability | None
    intervals: Mapping[str, Interval]
    subgroups: tuple[Subgroup, ...]
    spreads: tuple[TraitSpread, ...]
    resampling: Resampling
    pooled: PhotoFigures | None
    rows: tuple[PhotoRow, ...]
    counts: Counts
    rule: Rule
    threshold: Threshold
    mask_thresh: float
    class_names: tuple[str, ...]
    dataset_name: str
    dataset_fingerprint: str

    @property
    def score_thresh(self) -> float:
        """From which score detections count."""
        return self.threshold.score_thresh

    def by_name(self) -> dict[str, float]:
        """Every figure that may have an interval, by the name it has there."""
        point = self.detection.chosen
        found = {f"isic.{name}": value for name, value in asdict(self.figures).items()}
        found |= {f"boundary.{name}": value for name, value in asdict(self.boundary.figures).items()}
        for name in ("average_distance_mm", "distance_95_mm"):
            if (value := getattr(self.boundary, name)) is not None:
                found[f"boundary.{name}"] = value
        for kind, precision in (("box", self.coco.box), ("mask", self.coco.mask)):
            found |= {f"coco.{kind}.{name}": getattr(precision, name) for name in Precision._fields}
        found |= {f"detection.{name}": getattr(point, name) for name in POINT_FIGURES}
        found["calibration.scores_brier"] = self.score_calibration.brier_score
        if self.mask_calibration is not None:
            found["calibration.masks_brier"] = self.mask_calibration.brier_score
        return found
