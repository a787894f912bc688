"""The values derived from volumes at ED and ES, and why a value is unknown."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scripts.quality.plausibility import edv_doubt, ef_doubt, mass_doubt, myo_doubt

MYOCARDIAL_DENSITY = 1.05
"""g/ml"""


def function_of_volumes(
    volumes_ml: Mapping[str, Sequence[float]],
    ed: int | None,
    es: int | None,
    reasons: dict[str, str],
    sudden: Mapping[str, Collection[int]] | None = None,
    implausible: list[str] | None = None,
    judged: bool = True,
) -> dict[str, Any]:
    """Derive from the volumes at ED and ES: LV and RV (edv_ml, esv_ml, sv_ml, ef_percent), myocardial_mass_g.

    Args:
        volumes_ml: structure -> one value per frame.
        ed, es: frames, counted from 1; if one is None, ``reasons`` has the reason under "ed_frame" or "es_frame".
        reasons: the reason why a value is None is added here.
        sudden: structure -> frames in which its volume jumps. If it jumps at or next to ED or ES, the structure has no
            ejection fraction. If the myocardium jumps, which keeps its volume, no ventricle has one.
        implausible: structures with values that no heart can have are added here.
        judged: whether such values are withheld. An evaluation shows them, since they count as errors of a network.
    """
    odd = sudden or {}
    implausible = [] if implausible is None else implausible
    myo = volumes_ml["MYO"]
    both = judged and ed is not None and es is not None
    changed = myo_doubt(myo[ed - 1], myo[es - 1]) if both and myo[es - 1] else ""  # type: ignore[operator]
    ventricles = {}
    for name in ("LV", "RV"):
        jumps = {*odd.get(name, ()), *odd.get("MYO", ())}
        ventricles[name] = _ventricle(name, volumes_ml[name], ed, es, jumps, reasons, implausible, changed, judged)
    mass = None
    if ed is None:
        reasons["myocardial_mass_g"] = reasons["ed_frame"]
    elif not myo[ed - 1]:
        reasons["myocardial_mass_g"] = "no MYO at ED"
    elif judged and (wrong := mass_doubt(myo[ed - 1] * MYOCARDIAL_DENSITY)):
        reasons["myocardial_mass_g"] = wrong
        implausible.append("MYO")
    else:
        mass = myo[ed - 1] * MYOCARDIAL_DENSITY
        implausible += ["MYO"] * bool(changed)
    return {**ventricles, "myocardial_mass_g": mass}


def without_function(function: Mapping[str, Any], reason: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The same keys without values, and the reason for each."""
    empty = {name: dict.fromkeys(value) if isinstance(value, dict) else None for name, value in function.items()}
    keys = [f"{name}.{key}" for name, value in empty.items() if value for key in value]
    return empty, dict.fromkeys([*keys, "myocardial_mass_g"], reason)


def _ventricle(
    name: str,
    volumes: Sequence[float],
    ed: int | None,
    es: int | None,
    sudden: set[int],
    reasons: dict[str, str],
    implausible: list[str],
    changed: str,
    judged: bool,
) -> dict[str, float | None]:
    result: dict[str, float | None] = dict.fromkeys(("edv_ml", "esv_ml", "sv_ml", "ef_percent"))
    for key, phase, frame in (("edv_ml", "ed", ed), ("esv_ml", "es", es)):
        if frame is None:
            reasons[f"{name}.{key}"] = reasons[f"{phase}_frame"]
        elif not volumes[frame - 1]:
            reasons[f"{name}.{key}"] = f"no {name} at {phase.upper()}"
        else:
            result[key] = volumes[frame - 1]
    edv, esv = result["edv_ml"], result["esv_ml"]
    if judged and edv is not None and (wrong := edv_doubt(name, edv)):
        implausible.append(name)
        reasons |= {f"{name}.{key}": wrong for key in result}
        return dict.fromkeys(result)
    around = [frame + step for frame in (ed, es) if frame is not None for step in (-1, 0, 1)]
    beside = {1 + (frame - 1) % len(volumes) for frame in around}
    if edv is None or esv is None:
        doubt = reasons[f"{name}.edv_ml" if edv is None else f"{name}.esv_ml"]
    elif ed == es:
        doubt = "ED and ES are the same frame"
    elif jumped := sorted(sudden & beside):
        doubt = f"a volume jumps at frame {jumped[0]}: ED or ES may be this badly segmented frame"
    elif changed:
        doubt = changed
    elif esv > edv:
        doubt = "the volume at ES is above that at ED"
    elif judged and (wrong := ef_doubt(name, 100.0 * (edv - esv) / edv)):
        doubt = wrong
        implausible.append(name)
    else:
        return {**result, "sv_ml": edv - esv, "ef_percent": 100.0 * (edv - esv) / edv}
    reasons[f"{name}.sv_ml"] = reasons[f"{name}.ef_percent"] = doubt
    return result
