"""What a cine exam is: files in and out, exams and folds, geometry, and what the heart does. Knows nothing of NAS."""

STRUCTURES = {"RV": 1, "MYO": 2, "LV": 3}
"""Labels of the right ventricle's cavity, the left ventricle's myocardium and its cavity; 0 is background."""
