"""The values that the papers report, for comparison with measurements here; nothing in this module was measured here.

The papers' devices and labels differ from ours, so only the order of their rows can be compared. Means of the three
structures are computed from the columns, since some printed averages do not agree with them. In RT-DNAS
Table 1, Dijkstra N=3, the columns' mean is 0.862, but 0.849 is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Reported:
    """A row of a paper's table: Dice of RV, MYO and LV as (mean, standard deviation), ms, volumes per second."""

    name: str
    rv: tuple[float, float]
    myo: tuple[float, float]
    lv: tuple[float, float]
    ms: float
    volumes_per_second: float

    @property
    def mean(self) -> float:
        return fmean(dice for dice, _ in (self.rv, self.myo, self.lv))


@dataclass(frozen=True)
class Source:
    """A paper's table: its place, its device and its data."""

    title: str
    device: str
    data: str
    rows: tuple[Reported, ...]


_RT = "RT-DNAS (Lu et al., MICCAI 2022)"
_P100 = "NVIDIA Tesla P100"
_ALL_FRAMES = "ACDC with labels of all frames, which are not public; 5 folds"
RT_METHODS = Source(
    f"{_RT}, Table 1",
    _P100,
    _ALL_FRAMES,
    (
        Reported("Dijkstra (N = 3)", (0.865, 0.024), (0.843, 0.021), (0.877, 0.022), 27, 39.8),
        Reported("Dijkstra (N = 5)", (0.911, 0.033), (0.881, 0.028), (0.925, 0.019), 40, 32.0),
        Reported("Dijkstra (N = 7)", (0.928, 0.026), (0.882, 0.017), (0.943, 0.020), 48, 22.1),
        Reported("Genetic (N = 3)", (0.857, 0.034), (0.843, 0.020), (0.878, 0.015), 26, 40.4),
        Reported("Genetic (N = 5)", (0.910, 0.026), (0.889, 0.039), (0.932, 0.022), 35, 34.1),
        Reported("Genetic (N = 7)", (0.925, 0.023), (0.891, 0.019), (0.950, 0.016), 41, 28.9),
    ),
)
RT_SYSTEMS = Source(
    f"{_RT}, Table 2",
    _P100,
    _ALL_FRAMES,
    (
        Reported("ICA-UNet (n = 3)", (0.900, 0.023), (0.869, 0.027), (0.934, 0.013), 35, 31.6),
        Reported("ICA-UNet (n = 4)", (0.921, 0.017), (0.888, 0.034), (0.952, 0.011), 39, 28.3),
        Reported("HW-Aware NAS", (0.922, 0.015), (0.910, 0.042), (0.958, 0.019), 52, 19.5),
        Reported("BiX-NAS", (0.916, 0.021), (0.908, 0.012), (0.946, 0.033), 49, 20.1),
        Reported("MS-NAS", (0.928, 0.011), (0.911, 0.024), (0.961, 0.025), 55, 18.8),
        Reported("DeU-NAS", (0.961, 0.015), (0.927, 0.025), (0.971, 0.018), 121, 10.2),
        Reported("RT-DNAS (N = 6)", (0.924, 0.010), (0.890, 0.017), (0.939, 0.030), 37, 31.8),
        Reported("RT-DNAS (N = 7)", (0.925, 0.023), (0.891, 0.019), (0.950, 0.016), 41, 28.9),
        Reported("RT-DNAS (N = 8)", (0.933, 0.018), (0.902, 0.029), (0.959, 0.011), 46, 23.4),
    ),
)
HW_SYSTEMS = Source(
    "Hardware-aware NAS (Zeng et al., ICCAD 2020), Table 2",
    "NVIDIA GeForce GTX 1080",
    "ACDC, end-diastole and end-systole",
    (
        Reported("U-Net 2D (depth 5, 64 filters)", (0.865, 0.036), (0.761, 0.039), (0.911, 0.026), 62, 16.1),
        Reported("U-Net 2D (depth 3, 16 filters)", (0.564, 0.071), (0.738, 0.045), (0.767, 0.026), 30, 33.3),
        Reported("U-Net 3D (depth 4, 32 filters)", (0.855, 0.039), (0.830, 0.044), (0.905, 0.027), 157, 6.4),
        Reported("U-Net 3D (depth 3, 16 filters)", (0.805, 0.059), (0.790, 0.034), (0.886, 0.029), 58, 17.2),
        Reported("MS-NAS 3D (n = 4)", (0.873, 0.039), (0.858, 0.033), (0.911, 0.030), 139, 7.2),
        Reported("HW-NAS (n = 2)", (0.865, 0.041), (0.850, 0.033), (0.911, 0.029), 45, 22.2),
        Reported("HW-NAS (n = 1)", (0.856, 0.038), (0.842, 0.033), (0.905, 0.030), 39, 25.6),
    ),
)
PAPER_MS, PAPER_PER_SECOND = 50.0, 22.0
"""The papers' constraint."""
