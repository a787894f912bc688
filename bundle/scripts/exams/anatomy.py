"""The phantom's anatomy: a beating heart in a chest, drawn slice by slice as short-axis bSSFP would show it.

Lengths are in mm, angles in rad. In a slice, x runs towards the patient's left and y towards the back, both from the
LV's centre. The depth s is along the long axis, from the mitral plane at end-diastole towards the apex.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scripts.cine import STRUCTURES

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")

# the ranges for each group: LV radius, wall, LV ejection fraction, RV radius, RV shortening
_RANGES = {
    "NOR": ((23, 27), (7, 9), (0.55, 0.68), (33, 38), (0.28, 0.36)),
    "DCM": ((30, 36), (6.5, 8), (0.14, 0.35), (34, 40), (0.15, 0.28)),
    "HCM": ((20, 24), (12, 16), (0.62, 0.76), (33, 38), (0.16, 0.24)),
    "MINF": ((27, 31), (7, 8.5), (0.30, 0.45), (33, 38), (0.24, 0.34)),
    "RV": ((22, 26), (7, 9), (0.48, 0.62), (42, 48), (0.12, 0.24)),
}
_SIGNAL = {"blood": 1.0, "myo": 0.36, "fat": 0.9, "muscle": 0.4, "liver": 0.5, "lung": 0.12}
_PARTS_THROUGH_SLICE = np.array([-0.33, 0.0, 0.33])


@dataclass(frozen=True)
class Anatomy:
    """One patient's heart and chest."""

    radius: float  # of the LV cavity at the base, end-diastole
    wall: float
    length: float  # of the LV cavity
    shortening: float  # of the radius, at end-systole
    descent: float  # of the mitral plane at end-systole, share of the length
    ellipticity: float
    septal_excess: float  # share of the wall
    scar_depth: float  # share of the shortening that a scar takes
    scar_angle: float
    rv_angle: float
    rv_radius: float
    rv_shortening: float
    liver_depth: float
    signal: dict[str, float]

    @classmethod
    def draw(cls, group: str, rng: np.random.Generator) -> Anatomy:
        """A patient of one of GROUPS."""
        radius, wall, ef, rv_radius, rv_shortening = (rng.uniform(*bounds) for bounds in _RANGES[group])
        descent = 0.22 * ef
        return cls(
            radius=radius,
            wall=wall,
            length=radius * rng.uniform(1.3, 1.7) + 42,
            shortening=1 - math.sqrt((1 - ef) / (1 - descent)),
            descent=descent,
            ellipticity=rng.uniform(-0.06, 0.06),
            septal_excess=rng.uniform(0.2, 0.5) if group == "HCM" else rng.uniform(-0.05, 0.1),
            scar_depth=rng.uniform(0.8, 1.1) if group == "MINF" else 0.0,
            scar_angle=rng.uniform(-np.pi, np.pi),
            rv_angle=np.pi + rng.uniform(0.1, 0.8),
            rv_radius=rv_radius,
            rv_shortening=rv_shortening,
            liver_depth=rng.uniform(20, 60),
            signal={tissue: level * rng.uniform(0.88, 1.12) for tissue, level in _SIGNAL.items()},
        )

    @property
    def rv_offset(self) -> float:
        """Distance of the RV's centre from the LV's, at the base."""
        return 0.82 * (self.radius + self.wall * (1 + self.septal_excess))


def contraction(frames: int, rng: np.random.Generator) -> np.ndarray:
    """The contraction in each frame of one beat: 0 at end-diastole (frame 1), 1 at end-systole."""
    phase, systole, relaxation = np.arange(frames) / frames, rng.uniform(0.33, 0.42), rng.uniform(0.35, 0.5)
    fall = np.sin(np.pi / 2 * np.minimum(phase / systole, 1)) ** 2
    rise = np.cos(np.pi / 2 * np.clip((phase - systole) / relaxation, 0, 1)) ** 2
    return np.where(phase < systole, fall, rise).astype(np.float32)


def draw_slice(
    anatomy: Anatomy, x: np.ndarray, y: np.ndarray, s: float, thickness: float, pixel: float, beat: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Signal (blood is about 1) and labels of one slice, T H W each.

    Partial volume: the distance of a pixel's centre to an edge determines how much of the pixel is covered, and several
    depths are averaged through the slice. The label of a pixel is the structure that covers most of it.

    Args:
        x, y: H W, mm from the LV's centre.
        s: depth of the slice (mm).
        thickness, pixel: of the slice and of a pixel (mm).
        beat: T, the contraction of each frame.
    """
    depths = (s + thickness * _PARTS_THROUGH_SLICE).astype(np.float32).reshape(1, -1, 1, 1)
    lv, wall, rv, blood, myo = _heart(anatomy, x, y, depths, beat.reshape(-1, 1, 1, 1), pixel)
    covered = np.stack([1 - lv - wall - rv, rv, wall, lv])
    labels = np.array([0, STRUCTURES["RV"], STRUCTURES["MYO"], STRUCTURES["LV"]], np.uint8)[covered.argmax(axis=0)]
    chest = _chest(anatomy, x, y, s, pixel)
    signal = chest * (1 - blood - myo) + anatomy.signal["blood"] * blood + anatomy.signal["myo"] * myo
    return signal, labels


def _heart(
    a: Anatomy, x: np.ndarray, y: np.ndarray, s: np.ndarray, beat: np.ndarray, pixel: float
) -> tuple[np.ndarray, ...]:
    """Shares of each pixel, T H W: labelled LV, MYO and RV; then all visible blood and all visible myocardium."""
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    base = a.descent * a.length * beat
    below = s >= base  # above the mitral plane are the atria: blood in a thin wall, without a label
    u = np.maximum(s - base, 0) / (a.length - base)
    taper = np.sqrt(np.maximum(1 - u**2.4, 0))
    scar = 1 - a.scar_depth * np.exp(2.5 * (np.cos(angle - a.scar_angle) - 1))
    shape = a.radius * (1 + a.ellipticity * np.cos(2 * angle))
    endo = taper * shape * (1 - a.shortening * beat * scar)
    thick = a.wall * (1 + a.septal_excess * np.cos(angle - a.rv_angle)) * (1 - 0.3 * (1 - scar))
    cap = np.maximum(1 - (np.maximum(s - base, 0) / (a.length + 0.8 * a.wall - base)) ** 4, 0)
    area = ((shape + thick) ** 2 - shape**2) * cap * a.length / (a.length - base)  # muscle does not change its volume
    epi = np.sqrt(endo**2 + area)
    cavity, heart = _inside(endo - r, pixel), _inside(np.where(below, epi, endo + 2.5) - r, pixel)

    rv_taper = np.sqrt(np.maximum(1 - (u / 0.92) ** 1.8, 0))
    along = x * np.cos(a.rv_angle) + y * np.sin(a.rv_angle) - a.rv_offset * np.maximum(rv_taper, 0.3)
    across = y * np.cos(a.rv_angle) - x * np.sin(a.rv_angle)
    semi_along = a.rv_radius * rv_taper * (1 - a.rv_shortening * beat) + 1e-3
    semi_across = 1.12 * a.rv_radius * rv_taper * (1 - 0.6 * a.rv_shortening * beat) + 1e-3
    depth = _ellipse_depth(along, across, semi_along, semi_across)
    right = _inside(depth, pixel) * (1 - heart)
    rv_wall = _inside(np.where(rv_taper > 0, depth + 3.0, -1e3), pixel) * (1 - heart) - right

    papillary = np.zeros_like(cavity)
    for side in (-2.1, 2.1):
        px, py = 0.62 * endo * np.cos(a.rv_angle + side), 0.62 * endo * np.sin(a.rv_angle + side)
        inside = _inside(0.17 * a.radius * taper - np.hypot(x - px, y - py), pixel)
        papillary = np.maximum(papillary, inside * ((u > 0.2) & (u < 0.75)))
    papillary = papillary * cavity
    parts = (
        cavity * below,
        (heart - cavity) * below,
        right * below,
        cavity + right - papillary,
        heart - cavity + rv_wall + papillary,
    )
    return tuple(part.mean(axis=1) for part in parts)


def _chest(a: Anatomy, x: np.ndarray, y: np.ndarray, s: float, pixel: float) -> np.ndarray:
    """Signal of everything except the heart, H W; later shapes cover earlier ones."""
    signal = a.signal
    canvas = np.full_like(x, 0.02)
    body = _ellipse_depth(x + 45, y - 25, 165.0, 105.0)
    taper = math.sqrt(max(1 - (max(s, 0) / (a.length + a.wall)) ** 2, 0.1))
    rv_x, rv_y = (a.rv_offset * taper * part for part in (math.cos(a.rv_angle), math.sin(a.rv_angle)))
    around_lv = (a.radius + a.wall) * taper + 4 - np.hypot(x, y)
    around_rv = (1.05 * a.rv_radius * taper + 7) - np.hypot(x - rv_x, y - rv_y)
    shapes = [
        (body, "fat"),
        (body - 14, "muscle"),
        (_ellipse_depth(x - 55, y - 20, 62.0, 72.0), "lung"),
        (_ellipse_depth(x + 125, y - 20, 60.0, 75.0), "lung"),
        (_ellipse_depth(x + 75, y - 10, 70.0, 60.0) - np.maximum(a.liver_depth - s, 0), "liver"),
        (np.maximum(around_lv, around_rv), "fat"),
        (20 - np.hypot(x + 35, y - 95), "muscle"),
        (11 - np.hypot(x - 18, y - 72), "blood"),
    ]
    for depth, tissue in shapes:
        inside = _inside(depth, pixel)
        canvas = canvas * (1 - inside) + signal[tissue] * inside
    return canvas


def _inside(depth: np.ndarray, pixel: float) -> np.ndarray:
    """The share of a pixel inside an edge, from the distance of its centre to the edge (mm, positive inside)."""
    return np.clip(0.5 + depth / pixel, 0, 1)


def _ellipse_depth(x: np.ndarray, y: np.ndarray, a: float | np.ndarray, b: float | np.ndarray) -> np.ndarray:
    """Distance to an ellipse's edge, positive inside, exact near the edge."""
    level = np.hypot(x / a, y / b)
    return level * (1 - level) / np.maximum(np.hypot(x / a**2, y / b**2), 1e-6)
