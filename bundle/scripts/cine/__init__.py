"""Cine exams: files in and out, geometry, and order of slices and axes. Independent of NAS."""

STRUCTURES = {"RV": 1, "MYO": 2, "LV": 3}
"""Labels: cavity of the right ventricle, myocardium and cavity of the left ventricle; background is 0."""
